# SPDX-License-Identifier: Apache-2.0
"""One entry as its front holds it, and the numbers that go with it.

Owns:  nothing.
See:   desk.py
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cubbyhole.core.entries import EntryState

if TYPE_CHECKING:
    from cubbyhole.core.entries import Buffer, Failure, RequestEntry, Result

READY, CLAIMED, STREAMING, DONE = (
    int(EntryState.READY),
    int(EntryState.CLAIMED),
    int(EntryState.STREAMING),
    int(EntryState.DONE),
)
FAILED = int(EntryState.FAILED)
# A stream's writer stops with this much on its way; its credit is renewed when a quarter of it
# was taken.
CREDIT_CHUNKS = 64
CREDIT_BYTES = 1 << 20


def size_of(body: Buffer) -> int:
    """Return a buffer's size in bytes, whatever the type of its items."""
    return len(body) if type(body) is bytes else memoryview(body).nbytes


class Held:
    """One entry at its front."""

    __slots__ = (
        "attempt", "cancelled", "chunks", "claimed_ns", "done_ns", "end", "entry", "first_ns", "head", "news",
        "owner", "owner_index", "ready_ns", "row",
        "sequence", "size", "state", "taken_bytes", "taken_chunks", "told_bytes",
        "told_chunks",
    )  # fmt: skip

    def __init__(self, entry: RequestEntry, row: int, size: int, ready_ns: int) -> None:
        self.entry = entry
        self.row = row
        self.size = size
        self.ready_ns = ready_ns
        self.state = READY
        self.owner: Any = None  # whatever the transport knows a worker's connection by
        self.owner_index = -1
        self.attempt = 0
        self.sequence = 0  # order of arrival; an entry that is offered again keeps its place
        self.cancelled = False
        self.claimed_ns = self.first_ns = self.done_ns = 0
        self.news = False  # a `Collected` for it waits to be collected
        self.chunks: list[bytes] | None = None
        self.head: tuple[int, bytes] | None = None
        self.end: Result | Failure | None = None
        self.taken_chunks = self.taken_bytes = 0
        self.told_chunks = self.told_bytes = 0

    def times_ns(self) -> tuple[int, int, int, int, int]:
        """Return received, ready, claimed, first chunk, done."""
        return (
            self.entry.received_ns,
            self.ready_ns,
            self.claimed_ns,
            self.first_ns,
            self.done_ns,
        )
