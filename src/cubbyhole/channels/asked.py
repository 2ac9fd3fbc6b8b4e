# SPDX-License-Identifier: Apache-2.0
"""What a worker that asks its fronts holds: connections, entries, memory.

Flow:  asking.py -> Line -> FrontLink -> front;  AskedEntry is what `claim` returns
Owns:  nothing beyond the objects themselves.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Protocol

from cubbyhole.core.errors import EntryTooLarge

if TYPE_CHECKING:
    from collections.abc import Callable

    from cubbyhole.channels.framing import Frame, Given, Message
    from cubbyhole.channels.ledger import Ledger
    from cubbyhole.core.entries import Buffer


class FrontLink(Protocol):
    """What a connection to a front must do; `Link` does."""

    closed: bool

    def fileno(self) -> int:
        """Readable when `receive` has something."""

    def send(self, message: Message, body: Buffer = b"") -> bool:
        """Send without waiting; returns whether all of it is out."""

    def flush(self) -> bool:
        """Send what was kept; returns whether all of it is out."""

    def receive(self) -> list[Frame]:
        """Return what has arrived, without waiting."""

    def close(self) -> None:
        """Close the connection."""


class HeapReservation(bytearray):
    """Memory to fill; this channel copies it once when it is sent."""

    @property
    def size_bytes(self) -> int:
        """Its size."""
        return len(self)


class Line:
    """A connection and what was said on it."""

    __slots__ = ("asked", "front", "front_reclaimed", "link", "notified", "pool", "sending")

    def __init__(self, front: int, link: FrontLink, front_reclaimed: int) -> None:
        self.front = front
        self.link = link
        self.front_reclaimed = front_reclaimed  # changes when this front is declared dead
        self.asked = False  # a `Want` waits for its answer
        self.sending = threading.Lock()  # `publish` and `claim` may be different threads
        self.pool: Any = None  # of the pipes channel
        self.notified = False  # a `Notify` waits for its answer


class AskedEntry:
    """An entry in a worker's hands."""

    __slots__ = (
        "_is_cancelled",
        "attempt",
        "body",
        "bytes_sent",
        "bytes_taken",
        "chunks",
        "chunks_taken",
        "deadline_ns",
        "done",
        "id",
        "line",
        "meta",
        "pipe",
        "row",
    )  # fmt: skip

    def __init__(
        self, is_cancelled: Callable[[AskedEntry], bool], line: Line, given: Given, body: Buffer
    ) -> None:
        self._is_cancelled = is_cancelled
        self.line = line
        self.id = given.id
        self.row = given.row
        self.pipe = given.pipe
        self.attempt = given.attempt
        self.deadline_ns = given.deadline_ns
        self.meta = given.meta
        self.body = body
        self.done = False
        self.chunks = self.chunks_taken = self.bytes_sent = self.bytes_taken = 0

    @property
    def cancelled(self) -> bool:
        """Whether nobody waits any more: cancelled by its front, or the front is gone."""
        return self._is_cancelled(self)


def make_reservation(size_bytes: int, ledger: Ledger) -> HeapReservation:
    """Return memory of the process; the channel has no other."""
    if size_bytes > ledger.settings.arena_bytes:
        raise EntryTooLarge(
            f"{size_bytes:,} bytes were asked for, but the channel holds {ledger.settings.arena_bytes:,}. "
            "Raise arena_bytes."
        )
    return HeapReservation(size_bytes)
