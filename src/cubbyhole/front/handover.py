# SPDX-License-Identifier: Apache-2.0
"""Requests of clients on this machine, whose arrays come as descriptors: the same lanes, but no HTTP and no copy.

Off unless `LitServer(handover=True)`. The socket has a name in Linux's abstract space, so nothing is left behind, and takes connections
of this user (and root) only: the kernel says who is at the other end. The API key, limits, priorities, time-outs and failure
records are those of HTTP, as a request takes the same `Lane`. User middlewares do not see it.

Flow:  connection -> Ask, memfds -> check -> calls.py -> Lane.answer -> Reply (and a memfd)
Owns:  the listening socket (made by the supervisor before it forks the fronts), this front's connections and their descriptors.
See:   core/handed.py, worker/handed.py, docs/guide/handover.md
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import socket
import struct
from typing import TYPE_CHECKING, Any

import msgspec

from cubbyhole.core.errors import CubbyholeError, MalformedBody, PayloadTooLarge
from cubbyhole.core.handed import (
    CONTENT_TYPE,
    INLINE_BYTES,
    MESSAGE_BYTES,
    Ask,
    HandedMemory,
    Reply,
    address,
    check_memory,
    check_tensor,
)
from cubbyhole.front.calls import Question, call
from cubbyhole.front.lanes import kind_of_lane
from cubbyhole.front.meta import MetaReader

if TYPE_CHECKING:
    from cubbyhole.front.desk import Desk
    from cubbyhole.front.lane import Lane

logger = logging.getLogger(__name__)

MOST_CONNECTIONS = 64  # of one front; each client has one
BACKLOG = 64
_CREDENTIALS = struct.Struct("=iII")  # pid, uid, gid
_DESCRIPTORS = 2
_HEADERS = ("x-api-key", "x-request-id", "x-request-timeout", "x-priority", "accept", "traceparent")
_decode = msgspec.msgpack.Decoder(Ask).decode
_encode = msgspec.msgpack.Encoder().encode


class Counter:
    """The place where local clients come: a listening socket that all fronts share.

    Args:
        port: Of the server; clients find the socket by it.

    Raises:
        OSError: another server of this port is there.
    """

    def __init__(self, port: int) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        self.socket.bind(address(port))
        self.socket.listen(BACKLOG)
        self._lanes: dict[str, Lane] = {}
        self._connections: set[_Connection] = set()
        self._limit_bytes = 0
        self.passed: frozenset[str] = frozenset(_HEADERS)

    def open(self, desk: Desk, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to take connections in this front."""
        from cubbyhole.front.routes import is_guarded  # FastAPI is not imported before the fronts

        settings = desk.settings
        self._limit_bytes = settings.max_payload_bytes or settings.arena_bytes
        kind = kind_of_lane(settings, by_http=False, reader=HandedMetaReader)
        self.passed = frozenset((*_HEADERS, settings.client_key))
        for number, endpoint in enumerate(settings.endpoints):
            lit_api = desk.lit_apis[number]
            if not endpoint.stream and lit_api.spec is None and is_guarded(lit_api):
                self._lanes[endpoint.path] = kind(
                    desk, number, guarded=True, compressed=False, inside_fastapi=False
                )
        loop.add_reader(self.socket.fileno(), self._accept, loop)

    def close(self, loop: asyncio.AbstractEventLoop) -> None:
        """End this front's connections; the socket stays the supervisor's."""
        loop.remove_reader(self.socket.fileno())
        for connection in tuple(self._connections):
            connection.close()

    def lane(self, path: str) -> Lane | None:
        """Return the lane of an API that takes handed memory."""
        return self._lanes.get(path)

    def check_size(self, size_bytes: int) -> None:
        """Refuse memory over the server's limit.

        Raises:
            PayloadTooLarge: it is.
        """
        if size_bytes > self._limit_bytes:
            raise PayloadTooLarge(
                f"The memfd has {size_bytes:,} bytes, the limit is {self._limit_bytes:,}."
            )

    def forget(self, connection: _Connection) -> None:
        """Forget a connection that was closed."""
        self._connections.discard(connection)

    def _accept(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            peer, _ = self.socket.accept()
        except OSError:  # another front was faster, or no descriptors are left now
            return
        peer.setblocking(False)
        raw = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        pid, uid, _ = _CREDENTIALS.unpack(raw)
        if uid not in {0, os.geteuid()} or len(self._connections) >= MOST_CONNECTIONS:
            logger.debug("local client refused: uid=%d connections=%d", uid, len(self._connections))
            peer.close()
            return
        self._connections.add(_Connection(self, peer, pid, loop))


class _Connection:
    """One client, which asks one thing at a time."""

    def __init__(
        self, counter: Counter, peer: socket.socket, pid: int, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._counter = counter
        self._peer = peer
        self._client = (f"process {pid}", 0)  # what is an address elsewhere
        self._loop = loop
        self._left = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._busy = False
        loop.add_reader(peer.fileno(), self._receive)

    def close(self) -> None:
        """Hang up; a request under way is cancelled."""
        if self._peer.fileno() >= 0:
            self._loop.remove_reader(self._peer.fileno())
            self._peer.close()
            self._left.set()
            self._counter.forget(self)

    def _receive(self) -> None:
        try:
            data, fds, flags, _ = socket.recv_fds(
                self._peer, MESSAGE_BYTES, _DESCRIPTORS, socket.MSG_CMSG_CLOEXEC
            )
        except BlockingIOError:
            return
        except OSError:
            self.close()
            return
        cut = flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC)
        if not data or cut or self._busy:  # gone, or it does not keep to the protocol
            _close_all(fds)
            self.close()
            return
        self._busy = True
        task = self._loop.create_task(self._serve(data, fds))
        self._tasks.add(task)  # the loop itself holds tasks only weakly
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            logger.error("local request failed: error=%r", task.exception())
            self.close()

    async def _serve(self, data: bytes, fds: list[int]) -> None:
        try:
            ask = _checked(data)
            handed = self._handed(ask, fds)
            lane = self._counter.lane(ask.path)
            if lane is None:
                text = f"No API at {ask.path[:200]!r} takes handed memory: streams, specs and APIs with authorize are served over HTTP."
                await self._reply(404, "application/json", _detail(text), {})
                return
            answered = await call(lane, self._question(ask, handed), self._left)
            if answered is not None:
                await self._reply(
                    answered.status, answered.content_type, answered.body, answered.headers
                )
        except CubbyholeError as error:
            await self._reply(error.status, "application/json", _detail(str(error)), {})
        finally:
            _close_all(fds)

    def _handed(self, ask: Ask, fds: list[int]) -> HandedMemory:
        """Check the descriptors.

        Raises:
            MalformedBody: one is not what the request says.
            PayloadTooLarge: it is over the server's limit.
        """
        wanted = bool(ask.tensors) + ask.out
        if len(fds) != wanted:
            raise MalformedBody(
                f"The request speaks of {wanted} descriptors, but {len(fds)} came with it."
            )
        memories = []
        for fd in fds:
            inode, size_bytes = check_memory(fd)
            self._counter.check_size(size_bytes)
            memories.append((fd, inode, size_bytes))
        given = memories[0] if ask.tensors else (-1, 0, 0)
        out = memories[-1] if ask.out else (-1, 0, 0)
        for tensor in ask.tensors:
            check_tensor(tensor, given[2])
        return HandedMemory(os.getpid(), *given, ask.tensors, *out)

    def _question(self, ask: Ask, handed: HandedMemory) -> Question:
        passed = self._counter.passed
        headers = {name: value for name, value in ask.headers.items() if name in passed}
        if ask.content_type:
            headers["content-type"] = ask.content_type
        # What it would be as a body: arrays count for `max_queue_bytes` though they lie in their client's memory.
        size_bytes = sum(tensor.size_bytes for tensor in ask.tensors)
        headers["content-length"] = str(len(ask.body) + size_bytes)
        return Question(ask.path, ask.body, headers, {"handed": handed, "client": self._client})

    async def _reply(
        self, status: int, content_type: str, body: Any, headers: dict[str, str]
    ) -> None:
        fds: list[int] = []
        try:
            reply = Reply(status, content_type, b"", -1, headers)
            if len(body) <= INLINE_BYTES:
                reply = msgspec.structs.replace(reply, body=bytes(body))
            else:
                reply = msgspec.structs.replace(reply, memory_bytes=len(body))
                fds.append(await self._loop.run_in_executor(None, _in_memory, body))
            self._busy = False  # before it is sent: the next request may come at once
            if self._peer.fileno() >= 0:
                socket.send_fds(self._peer, [_encode(reply)], fds)
        except OSError as error:  # it left, does not read, or there is no memory
            logger.debug("local client lost: error=%r", str(error))
            self.close()
        finally:
            _close_all(fds)


class HandedMetaReader(MetaReader):
    """Reads metas with the memory that came beside the request."""

    def read(self, scope: Any, received_ns: int, handed: HandedMemory | None = None) -> Any:
        """As for HTTP."""
        return super().read(scope, received_ns, handed or scope["handed"])


def _checked(data: bytes) -> Ask:
    try:
        ask = _decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise MalformedBody(f"The message is no request: {str(error)[:200]}") from error
    if ask.content_type.startswith(CONTENT_TYPE):
        raise MalformedBody("A request has no body of this type.")
    return ask


def _detail(text: str) -> bytes:
    return msgspec.json.encode({"detail": text})


def _in_memory(body: Any) -> int:
    """Write an answer into a memfd of its own, which nobody can change any more."""
    fd = os.memfd_create("answer", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        view = memoryview(body).cast("B")
        at = 0
        while at < len(view):
            at += os.write(fd, view[at:])
        every = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, every)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _close_all(fds: list[int]) -> None:
    for fd in fds:
        with contextlib.suppress(OSError):
            os.close(fd)
    fds.clear()
