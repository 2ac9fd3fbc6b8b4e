# SPDX-License-Identifier: Apache-2.0
"""Messages between a front and a worker, and their way over a stream socket.

A frame is `head length u32 | body length u64 | head | body`. The head is MessagePack of one of the
structs below, so nothing that arrives is ever unpickled; the body is raw bytes that are sent from,
and large ones received into, the caller's memory.

Flow:  port -> Link.send -> socket -> Link.receive -> port
Owns:  a socket, what could not be sent yet, what arrived in part.
"""

from __future__ import annotations

import struct
from collections import deque
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from cubbyhole.core.entries import Failure  # noqa: TC001  (msgspec reads the annotation)

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from cubbyhole.core.entries import Buffer

_PREFIX = struct.Struct("<IQ")
_MAX_HEAD_BYTES = 64 << 20  # metadata and tracebacks; more is no message of ours
_READ_BYTES = 256 << 10
_LARGE_BYTES = 64 << 10  # larger bodies are received straight into their own memory
_FAIR_BYTES = (
    4 << 20
)  # one call takes no more from one peer, so that others and the event loop have their turn


class Want(msgspec.Struct, array_like=True, tag=0):
    """Worker: give me up to `limit` entries. Answered exactly once, by `Given` frames or `Nothing`."""

    limit: int
    stay: bool  # answer when there is something; else at once


class Retract(msgspec.Struct, array_like=True, tag=1):
    """Worker: answer my standing `Want` now, if you have not."""


class Notify(msgspec.Struct, array_like=True, tag=2):
    """Worker: tell me once when there is something to ask for."""


class Final(msgspec.Struct, array_like=True, tag=3):
    """Worker: a result; its body follows."""

    id: int
    status: int
    meta: bytes
    done_ns: int


class Part(msgspec.Struct, array_like=True, tag=4):
    """Worker: a chunk; its body follows."""

    id: int
    status: int
    meta: bytes


class Broken(msgspec.Struct, array_like=True, tag=5):
    """Worker: a failure."""

    id: int
    failure: Failure
    done_ns: int


class Given(msgspec.Struct, array_like=True, tag=6):
    """Front: an entry; its body follows. `rest` more frames belong to the same answer."""

    id: int
    row: int
    attempt: int
    deadline_ns: int
    meta: bytes
    rest: int
    pipe: int = 0  # the pipe that carries it, where each entry has one


class Nothing(msgspec.Struct, array_like=True, tag=7):
    """Front: there is nothing for you now."""


class Have(msgspec.Struct, array_like=True, tag=8):
    """Front: there is something to ask for."""


class Credit(msgspec.Struct, array_like=True, tag=9):
    """Front: so much of a stream was taken, since its beginning."""

    id: int
    chunks: int
    bytes: int


class Hello(msgspec.Struct, array_like=True, tag=10):
    """Worker: who I am, where the way of coming does not say it. `token` proves that I was started by our supervisor."""

    token: bytes
    worker: int
    life: int
    endpoint: int


class Bye(msgspec.Struct, array_like=True, tag=11):
    """Either: I close, where the transport does not tell."""


Message: TypeAlias = "Want | Retract | Notify | Final | Part | Broken | Given | Nothing | Have | Credit | Hello | Bye"
Frame: TypeAlias = "tuple[Message, Buffer]"


def encoder() -> Callable[[Message], bytes]:
    """Return what makes a head of a message."""
    return msgspec.msgpack.Encoder().encode


def decoder() -> Callable[[Buffer], Message]:
    """Return what makes a message of a head; raises msgspec's errors for what is none."""
    kinds = Want | Retract | Notify | Final | Part | Broken | Given | Nothing | Have | Credit
    return msgspec.msgpack.Decoder(kinds | Hello | Bye).decode


class BadFrame(ValueError):
    """What arrived is no frame of ours."""


class Link:
    """One end of a connection. Not thread-safe, but one thread may send while another receives."""

    def __init__(
        self, sock: socket.socket, limit_bytes: int, words: memoryview, copied_at: int
    ) -> None:
        self.sock = sock
        self.closed = False  # the other end is gone, or spoke nonsense
        self._words = words  # of the ledger, where `copied_at` counts payload bytes that are copied
        self._copied_at = copied_at
        self._limit_bytes = limit_bytes
        self._out: deque[memoryview] = deque()
        self._encode = encoder()
        self._decode = decoder()
        self._buffer = bytearray(_READ_BYTES)
        self._view = memoryview(self._buffer)
        self._filled = 0
        self._large: tuple[Message, memoryview, int] | None = None  # head, body, how much is there

    def fileno(self) -> int:
        """Return the socket's descriptor."""
        return self.sock.fileno()

    # Sending ------------------------------------------------------------------------------------
    # --------------

    def send(self, message: Message, body: Buffer = b"") -> bool:
        """Send without waiting; keeps what does not fit. Returns whether all of it is out.

        `body` must not change until it is out. A lost connection shows as `closed` and swallows
        what is sent.
        """
        head = self._encode(message)
        if type(body) is not bytes:
            body = memoryview(body).cast("B")
        size = len(body)
        prefix = _PREFIX.pack(len(head), size)
        self._words[self._copied_at] += size  # into the kernel
        if self._out:
            self._out.append(memoryview(prefix + head))
            if size:
                self._out.append(memoryview(body))
            return self.flush()
        parts = (prefix + head, body) if size else (prefix + head,)
        try:
            sent = self.sock.sendmsg(parts)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.closed = True
            return True
        for part in parts:
            if sent >= len(part):
                sent -= len(part)
                continue
            self._out.append(memoryview(part)[sent:])
            sent = 0
        return not self._out

    def flush(self) -> bool:
        """Send what was kept. Returns whether all of it is out."""
        out = self._out
        try:
            while out:
                part = out[0]
                sent = self.sock.send(part)
                if sent < len(part):
                    out[0] = part[sent:]
                    return False
                out.popleft()
        except BlockingIOError:
            return False
        except OSError:
            self.closed = True
            out.clear()
        return True

    # Receiving ----------------------------------------------------------------------------------
    # --------------

    def receive(self) -> list[Frame]:
        """Return the frames that have arrived, without waiting; sets `closed` at the end of the stream."""
        frames: list[Frame] = []
        taken = 0
        try:
            while taken < _FAIR_BYTES:
                if self._large is not None:
                    head, body, have = self._large
                    count = self.sock.recv_into(body[have : have + _FAIR_BYTES])
                    have += count
                    if have == len(body):
                        self._large = None
                        frames.append((head, body.toreadonly()))
                    else:
                        self._large = (head, body, have)
                else:
                    wanted = len(self._buffer) - self._filled
                    count = self.sock.recv_into(self._view[self._filled :])
                    self._filled += count
                    self._parse(frames)
                    if 0 < count < wanted and self._large is None:
                        break  # the socket is empty: spare the call that would only say so
                if count == 0:
                    self.closed = True
                    break
                taken += count
        except BlockingIOError:
            pass
        except (
            OSError,
            ValueError,
            msgspec.MsgspecError,
        ):  # ValueError: also text that is no UTF-8
            self.closed = True
        return frames

    def _parse(self, frames: list[Frame]) -> None:
        view, filled, start = self._view, self._filled, 0
        while filled - start >= _PREFIX.size:
            head_bytes, body_bytes = _PREFIX.unpack_from(view, start)
            if head_bytes > _MAX_HEAD_BYTES or body_bytes > self._limit_bytes:
                raise BadFrame(f"a frame of {head_bytes:,} + {body_bytes:,} bytes")
            head_at = start + _PREFIX.size
            body_at = head_at + head_bytes
            end = body_at + body_bytes
            if end <= filled:
                self._words[self._copied_at] += (
                    2 * body_bytes
                )  # out of the kernel, out of the buffer
                frames.append((self._decode(view[head_at:body_at]), bytes(view[body_at:end])))
                start = end
                continue
            if body_at > filled:
                self._make_room(start, head_bytes + _PREFIX.size)
                return
            if body_bytes > _LARGE_BYTES:
                body = memoryview(bytearray(body_bytes))
                have = filled - body_at
                body[:have] = view[body_at:filled]
                self._words[self._copied_at] += body_bytes + have
                self._large = (self._decode(view[head_at:body_at]), body, have)
                self._filled = 0
                return
            self._make_room(start, end - start)
            return
        self._make_room(start, 0)

    def _make_room(self, start: int, need: int) -> None:
        """Move what is left to the beginning, into a larger buffer where a head needs one."""
        left = bytes(self._view[start : self._filled])
        if need > len(self._buffer):
            self._view.release()
            self._buffer = bytearray(need + _READ_BYTES)
            self._view = memoryview(self._buffer)
        self._view[: len(left)] = left
        self._filled = len(left)

    def close(self) -> None:
        """Close the connection; what was not sent is dropped."""
        self.closed = True
        self._out.clear()
        self.sock.close()
