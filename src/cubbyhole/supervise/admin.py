# SPDX-License-Identifier: Apache-2.0
"""The supervisor's ear for operators: an abstract Unix socket, one short request and one answer for each connection.

Nothing here waits. The pool waits on these descriptors beside its children; a connection that says nothing is closed after
`PATIENCE_S`, a longer request than `REQUEST_BYTES` is refused, and an answer that its client does not take is dropped. So no client,
slow, stuck or hostile, holds up the burying of a dead worker. The kernel keeps the boundaries of messages (SOCK_SEQPACKET), and
says whose process is at the other end (SO_PEERCRED): only the supervisor's own uid is heard.

Flow:  Pool.turn -> **AdminSocket.turn** -> operating.py -> Done
Owns:  the listening socket and the connections, until `close`.
See:   docs/decisions/0040-operators-come-through-an-abstract-socket.md, core/operations.py
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import socket
import struct
import sys
import weakref
from typing import TYPE_CHECKING, Any

import msgspec

from cubbyhole.core.clock import now_ns
from cubbyhole.core.errors import CubbyholeError
from cubbyhole.core.operations import (
    REQUEST_BYTES,
    Done,
    decode_operation,
    encode_done,
    socket_address,
)

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger(__name__)

PATIENCE_NS = 2_000_000_000  # from connecting to the request: `ask` sends it at once
MOST_CONNECTIONS = 16  # at a time; further ones wait in the kernel's queue
BACKLOG = 64
_CREDENTIALS = "iII"  # struct ucred: pid, uid, gid


class AdminSocket:
    """Where operators ask.

    Args:
        answer: Does what is asked; its errors of our own tree are told to who asked.
        address: "@name" for an abstract one, "" where there is none.
        sock: It listens already; None with an empty address.
    """

    def __init__(
        self, answer: Callable[[Any], Done], address: str = "", sock: socket.socket | None = None
    ) -> None:
        self.address = address
        self._answer = answer
        self._sock = sock
        self._open: dict[int, tuple[socket.socket, int]] = {}  # and when it is too late

    @classmethod
    def listen(cls, answer: Callable[[Any], Done]) -> AdminSocket:
        """Listen at a random name. Where the system has no abstract sockets: nowhere."""
        if sys.platform != "linux":
            return cls(answer)
        address = f"@cubbyhole-{secrets.token_hex(16)}"
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        sock.bind(socket_address(address))
        sock.listen(BACKLOG)
        ear = cls(answer, address, sock)
        reference = weakref.ref(ear)

        def close_in_child() -> None:
            # A front's copy would go on taking operators, and never answer them, after the supervisor is gone.
            held = reference()
            if held is not None:
                held.close()

        os.register_at_fork(after_in_child=close_in_child)
        return ear

    def descriptors(self) -> list[int]:
        """Return what to wait for."""
        found = list(self._open)
        if self._sock is not None and len(self._open) < MOST_CONNECTIONS:
            found.append(self._sock.fileno())
        return found

    def turn(self) -> None:
        """Take who comes, answer who asked, drop who says nothing. Never waits."""
        if self._sock is None:
            return
        self._accept(self._sock)
        late_ns = now_ns()
        for fd, (sock, until_ns) in list(self._open.items()):
            try:
                message = sock.recv(REQUEST_BYTES + 1)
            except BlockingIOError:
                if until_ns > late_ns:
                    continue
                logger.warning("operator dropped: reason=silent fd=%d", fd)
                message = b""
            except OSError:  # it was reset
                message = b""
            del self._open[fd]
            with sock:
                if message:
                    self._reply(sock, message)

    def close(self) -> None:
        """Stop listening, and hang up."""
        for sock, _ in self._open.values():
            sock.close()
        self._open.clear()
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    def _accept(self, listening: socket.socket) -> None:
        while len(self._open) < MOST_CONNECTIONS:
            try:
                sock, _ = listening.accept()
            except OSError:  # nobody more; or no descriptors: they ask again
                return
            sock.setblocking(False)
            uid = _uid_of(sock)
            if uid != os.geteuid():
                logger.warning("operator refused: uid=%d", uid)
                sock.close()
                continue
            self._open[sock.fileno()] = (sock, now_ns() + PATIENCE_NS)

    def _reply(self, sock: socket.socket, message: bytes) -> None:
        with contextlib.suppress(OSError):  # it left, or does not read: its loss
            sock.send(encode_done(self._done(message)))

    def _done(self, message: bytes) -> Done:
        if len(message) > REQUEST_BYTES:
            return Done(ok=False, text=f"A request has at most {REQUEST_BYTES} bytes.")
        try:
            operation = decode_operation(message)
        except msgspec.DecodeError as error:
            return Done(ok=False, text=f"This is no operation: {error}.")
        try:
            done = self._answer(operation)
        except CubbyholeError as error:
            done = Done(ok=False, text=str(error), data={"code": error.code})
        logger.info("operator: ok=%s operation=%r text=%r", done.ok, operation, done.text)
        return done


def _uid_of(sock: socket.socket) -> int:
    size = struct.calcsize(_CREDENTIALS)
    data = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    uid: int = struct.unpack(_CREDENTIALS, data)[1]
    return uid
