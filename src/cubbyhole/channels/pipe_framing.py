# SPDX-License-Identifier: Apache-2.0
"""A front's end of a `multiprocessing.Pipe`: the Connection's framing, without its blocking.

A Connection sends `length i32, big endian | bytes` (or -1, a u64 length, and the bytes). A result is one such message, `length of
its head u32 | length of its body u64 | head | body`, or two where the body is large, so that nobody has to join them.

Flow:  PipeFront -> PipeEnd.send_bytes -> pipe -> Connection.recv_bytes;  Connection.send_bytes -> pipe -> PipeEnd.receive
Owns:  a socket, what could not be sent yet, what arrived in part.
"""

from __future__ import annotations

import struct
from collections import deque
from typing import TYPE_CHECKING

import msgspec

from cubbyhole.channels.framing import Link, decoder

if TYPE_CHECKING:
    import socket

    from cubbyhole.channels.framing import Frame, Message
    from cubbyhole.channels.giving import Peer
    from cubbyhole.channels.ledger import Ledger
    from cubbyhole.core.entries import Buffer

PREFIX = struct.Struct("<IQ")  # of a result: length of its head, length of its body
_SIZE = struct.Struct("!i")  # how a Connection announces a message,
_LARGE_SIZE = struct.Struct("!Q")  # or, after -1, one of 2 GiB and more
_MAX_SIZE = 0x7FFFFFFF
_READ_BYTES = 64 << 10
_FAIR_BYTES = 4 << 20  # one call takes no more, so that the event loop has its turn


class ControlLink(Link):
    """The connection beside the pool."""

    def __init__(self, sock: socket.socket, ledger: Ledger, copied_at: int) -> None:
        super().__init__(sock, ledger.settings.arena_bytes, ledger.words, copied_at)
        self.copied_at = copied_at


class PipeEnd:
    """The front's end of a pipe: the Connection's framing, without waiting."""

    def __init__(self, sock: socket.socket, peer: Peer, number: int, ledger: Ledger) -> None:
        self.sock = sock
        self.peer = peer
        self.number = number
        self.request_id = 0  # what it carries
        self.closed = False
        self.blocked = False
        self._words = ledger.words
        self._copied_at = peer.link.copied_at
        self._limit_bytes = ledger.settings.arena_bytes + (64 << 20)
        self._decode = decoder()
        self._out: deque[memoryview] = deque()
        self._in = bytearray()
        self._large: tuple[memoryview, int] | None = (
            None  # a large message, how much of it is there
        )
        self._head: Message | None = None  # whose body is the next message

    def send_bytes(self, body: Buffer) -> bool:
        """Like `Connection.send_bytes`, but keeps what does not fit; returns whether all of it is out."""
        view = memoryview(body).cast("B")
        size = view.nbytes
        self._words[self._copied_at] += size
        prefix = _SIZE.pack(size) if size <= _MAX_SIZE else _SIZE.pack(-1) + _LARGE_SIZE.pack(size)
        self._out.append(memoryview(prefix))
        if size:
            self._out.append(view)
        return self.flush()

    def flush(self) -> bool:
        """Send what was kept; returns whether all of it is out."""
        out = self._out
        try:
            while out:
                sent = self.sock.sendmsg(list(out)[:16])
                while out and sent >= len(out[0]):
                    sent -= len(out.popleft())
                if sent:
                    out[0] = out[0][sent:]
        except BlockingIOError:
            return False
        except OSError:
            self.closed = True
            out.clear()
        return True

    def receive(self) -> list[Frame]:
        """Return the results that have arrived, without waiting."""
        frames: list[Frame] = []
        taken = 0
        try:
            while taken < _FAIR_BYTES and not self.closed:
                if self._large is not None:
                    view, have = self._large
                    count = self.sock.recv_into(view[have:])
                    self._large = (view, have + count)
                    if have + count == len(view):
                        self._large = None
                        self._take_message(view.toreadonly(), frames)
                else:
                    data = self.sock.recv(_READ_BYTES)
                    count = len(data)
                    self._in += data
                    self._parse(frames)
                self.closed = count == 0
                taken += count
        except BlockingIOError:
            pass
        except (OSError, struct.error, ValueError, msgspec.MsgspecError):
            self.closed = True
        return frames

    def _parse(self, frames: list[Frame]) -> None:
        while len(self._in) >= _SIZE.size:
            start = _SIZE.size
            (size,) = _SIZE.unpack_from(self._in)
            if size == -1:
                if len(self._in) < start + _LARGE_SIZE.size:
                    return
                (size,) = _LARGE_SIZE.unpack_from(self._in, start)
                start += _LARGE_SIZE.size
            if not 0 <= size <= self._limit_bytes:
                raise ValueError(f"a message of {size:,} bytes")
            have = len(self._in) - start
            if have < size <= _READ_BYTES:
                return
            if have < size:
                view = memoryview(bytearray(size))
                view[:have] = self._in[start:]
                self._in.clear()
                self._words[self._copied_at] += have
                self._large = (view, have)
                return
            message = bytes(memoryview(self._in)[start : start + size])
            del self._in[: start + size]
            self._words[self._copied_at] += size
            self._take_message(message, frames)

    def _take_message(self, message: bytes | memoryview, frames: list[Frame]) -> None:
        self._words[self._copied_at] += len(message)
        if self._head is not None:
            frames.append((self._head, message))
            self._head = None
            return
        head_bytes, body_bytes = PREFIX.unpack_from(message)
        body_at = PREFIX.size + head_bytes
        head = self._decode(message[PREFIX.size : body_at])
        if len(message) - body_at == body_bytes:
            frames.append((head, bytes(message[body_at:])))
        else:
            self._head = head

    def close(self) -> None:
        """Close it; what was not sent is dropped."""
        self.closed = True
        self._out.clear()
        self.sock.close()
