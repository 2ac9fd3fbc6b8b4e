# SPDX-License-Identifier: Apache-2.0
"""How a worker finds a front without any name: a datagram socket pair for each front, made by the supervisor, inherited by all.

A worker makes a fresh socket pair and sends one end through the front's rendezvous; so both can end
and come again, nothing is left on disk, nobody else on the machine can connect, and a dead process
shows as the end of its stream. A listening socket was tried first: a path stays behind after kill
-9, an abstract name can be connected by every user, and a front that restarts must either inherit
the listening socket (then connections to its dead predecessor wait in the backlog for ever) or find
it free.

Flow:  worker invite(front, fd) -> front receive -> Link;  supervisor ring(front): "somebody was reclaimed, look"
Owns:  two descriptors for each front.
"""

from __future__ import annotations

import socket
import struct
from multiprocessing import reduction
from typing import Any

_INVITATION = struct.Struct(
    "<QQQQ"
)  # worker, its life, endpoint, number; 0 is the connection itself
_MAX_PENDING = 256


class Rendezvous:
    """The meeting places of all fronts."""

    def __init__(self, pairs: list[tuple[socket.socket, socket.socket]]) -> None:
        self._pairs = pairs

    @classmethod
    def create(cls, fronts: int) -> Rendezvous:
        """Make one for each front."""
        pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(fronts)]
        for pair in pairs:
            for sock in pair:
                sock.setblocking(False)
        return cls(pairs)

    def __reduce__(self) -> tuple[Any, ...]:
        fds = [tuple(reduction.DupFd(sock.fileno()) for sock in pair) for pair in self._pairs]
        return _rebuild, (fds,)

    def inbox(self, front: int) -> socket.socket:
        """Return the end that front `front` reads."""
        return self._pairs[front][0]

    def invite(self, front: int, worker: int, life: int, endpoint: int) -> socket.socket | None:
        """Make a connection to a front and return this end of it; None: its inbox is full, try later."""
        mine, theirs = socket.socketpair()
        mine.setblocking(False)
        try:
            if not self.hand(front, (worker, life, endpoint, 0), theirs.fileno()):
                mine.close()
                return None
        finally:
            theirs.close()
        return mine

    def hand(self, front: int, who: tuple[int, int, int, int], fd: int) -> bool:
        """Hand a descriptor to a front: from (worker, its life, endpoint), as number so-and-so; False: its inbox is full."""
        try:
            socket.send_fds(self._pairs[front][1], [_INVITATION.pack(*who)], [fd])
        except OSError:
            return False
        return True

    def ring(self, front: int) -> None:
        """Make a front look whether somebody was reclaimed."""
        try:
            self._pairs[front][1].send(b"!")
        except OSError:
            return  # full: then it has something to read, and looks anyway

    def receive(self, front: int) -> list[tuple[int, int, int, int, socket.socket]]:
        """Return (worker, life, endpoint, number, connection) of those who came."""
        came = []
        for _ in range(_MAX_PENDING):
            try:
                data, fds, _flags, _address = socket.recv_fds(self._pairs[front][0], 64, 1)
            except OSError:
                break
            if len(data) == _INVITATION.size and fds:
                sock = socket.socket(fileno=fds[0])
                sock.setblocking(False)
                came.append((*_INVITATION.unpack(data), sock))
        return came

    def receive_rings(self, front: int) -> bool:
        """Return whether somebody rang, for a front that nobody visits here."""
        rung = False
        try:
            while self._pairs[front][0].recv(64):
                rung = True
        except OSError:
            pass
        return rung

    def close(self) -> None:
        """Close this process's descriptors."""
        for pair in self._pairs:
            for sock in pair:
                sock.close()


def _rebuild(fds: list[tuple[Any, Any]]) -> Rendezvous:
    pairs = []
    for pair in fds:
        sockets = [socket.socket(fileno=dup.detach()) for dup in pair]
        pairs.append((sockets[0], sockets[1]))
    return Rendezvous(pairs)
