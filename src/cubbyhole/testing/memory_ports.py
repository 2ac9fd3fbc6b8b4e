# SPDX-License-Identifier: Apache-2.0
"""The two ends of a `MemoryChannel`, and what lies between them.

Every method takes the channel's one lock (`channel.changed`); names without underscore are for
`memory_channel` and tests.

Owns:  the ends' descriptors; entries belong to their front's port.
See:   testing/memory_channel.py, channels/base.py (the contract)
"""

from __future__ import annotations

import contextlib
import os
from collections import deque
from typing import TYPE_CHECKING, Any

from cubbyhole.core.entries import Chunk, Collected, EntryState, Failure, Result, Taken
from cubbyhole.core.errors import ChannelFull, StaleOwner
from cubbyhole.core.statistics import EntrySnapshot

if TYPE_CHECKING:
    from cubbyhole.core.entries import ClaimedEntry, Outcome, RequestEntry
    from cubbyhole.testing.memory_channel import MemoryChannel


def _size(body: Any) -> int:
    return memoryview(body).nbytes


class MemoryReservation(bytearray):
    """Room for a body: a bytearray that knows its size by the contract's name."""

    @property
    def size_bytes(self) -> int:
        """How much it holds, in bytes."""
        return len(self)


class Bell:
    """A descriptor that is readable after `ring` until `quiet`."""

    def __init__(self) -> None:
        self._read_fd, self._write_fd = os.pipe()
        os.set_blocking(self._read_fd, False)
        os.set_blocking(self._write_fd, False)
        self.rings = 0

    def fileno(self) -> int:
        """The readable end."""
        return self._read_fd

    def ring(self) -> None:
        """Make the descriptor readable."""
        self.rings += 1
        with contextlib.suppress(BlockingIOError):  # a full pipe is readable enough
            os.write(self._write_fd, b"!")

    def quiet(self) -> None:
        """Make the descriptor unreadable."""
        with contextlib.suppress(BlockingIOError):
            while os.read(self._read_fd, 4096):
                pass

    def close(self) -> None:
        """Close both ends."""
        os.close(self._read_fd)
        os.close(self._write_fd)


class MemoryEntry:
    """One request under way: what the front submitted, what the worker sees, and its outcome."""

    def __init__(self, entry: RequestEntry, front: int, ready_ns: int) -> None:
        self.id = entry.id
        self.endpoint = entry.endpoint
        self.body = memoryview(entry.body).toreadonly()
        self.meta = entry.meta
        self.deadline_ns = entry.deadline_ns
        self.rank = entry.rank
        self.retry_on_death = entry.retry_on_death
        self.front = front
        self.attempt = 0
        self.cancelled = False
        self.state = EntryState.READY
        self.owner: tuple[int, int] | None = None  # worker, epoch
        self.received_ns = entry.received_ns
        self.ready_ns = ready_ns
        self.claimed_ns = 0
        self.first_chunk_ns = 0
        self.done_ns = 0
        self.outcome: Result | Failure | None = None
        self.chunks: list[bytes] = []
        self.chunks_total = 0
        self.chunk_bytes = 0
        self.head: tuple[int, bytes] | None = None
        self.announced = False  # the front was told and has not looked yet
        self.starved = False  # the worker was refused a chunk and waits for credit

    @property
    def times_ns(self) -> tuple[int, int, int, int, int]:
        """As in `Collected`."""
        stream = (self.first_chunk_ns, self.done_ns)
        return (self.received_ns, self.ready_ns, self.claimed_ns, *stream)

    def snapshot(self) -> EntrySnapshot:
        """Describe the entry without its payload."""
        body = self.outcome.body if isinstance(self.outcome, Result) else b""
        return EntrySnapshot(
            id=self.id,
            endpoint=self.endpoint,
            state=self.state.name,
            front=self.front,
            owner=-1 if self.owner is None else self.owner[0],
            attempt=self.attempt,
            rank=self.rank,
            cancelled=self.cancelled,
            deadline_ns=self.deadline_ns,
            request_bytes=self.body.nbytes,
            result_bytes=_size(body),
            chunks=self.chunks_total,
            received_ns=self.received_ns,
            ready_ns=self.ready_ns,
            claimed_ns=self.claimed_ns,
            first_chunk_ns=self.first_chunk_ns,
            done_ns=self.done_ns,
            failure=self.outcome.code if isinstance(self.outcome, Failure) else "",
        )


class MemoryFrontPort:
    """A front's end of a `MemoryChannel`."""

    def __init__(self, channel: MemoryChannel, index: int) -> None:
        self._channel = channel
        self._index = index
        self.bell = Bell()
        self.news: deque[MemoryEntry] = deque()
        self.entries: dict[int, MemoryEntry] = {}
        self.withdrawn: list[Collected] = []  # by an operator
        self._closed = False

    def submit(self, entry: RequestEntry) -> None:
        """Put an entry on its way."""
        channel, settings = self._channel, self._channel.settings
        size_bytes = _size(entry.body)
        self._channel.check_size(size_bytes)
        with channel.changed:
            channel.check_open(self._closed)
            if len(self.entries) >= settings.slots:
                raise ChannelFull(
                    f"No free slot: all {settings.slots} used. Raise slots= or add workers."
                )
            cell = MemoryEntry(entry, self._index, channel.clock())
            self.entries[entry.id] = cell
            channel.count(submitted_total=1, request_bytes_total=size_bytes)
            channel.offer(cell)

    def reserve(self, size_bytes: int) -> MemoryReservation:
        """Room for a request body."""
        self._channel.check_size(size_bytes)
        return MemoryReservation(size_bytes)

    def collect(self) -> list[Collected]:
        """Everything that is new."""
        with self._channel.changed:
            self._channel.check_open(self._closed)
            self.bell.quiet()
            collected, self.withdrawn = self.withdrawn, []
            for cell in list(self.entries.values()):
                self._channel.expire(cell)
            while self.news:
                cell = self.news.popleft()
                if cell.id not in self.entries:
                    continue
                if cell.chunks_total == 0:
                    del self.entries[cell.id]
                    collected.append(Collected(cell.id, cell.outcome, cell.times_ns))
                else:
                    collected.append(Collected(cell.id, None, cell.times_ns))
        return collected

    def take_chunks(self, request_id: int) -> Taken:
        """Take what a stream has."""
        with self._channel.changed:
            cell = self.entries.get(request_id)
            if cell is None:
                return Taken([], end=Failure("cancelled", 499, "Request cancelled"))
            chunks, cell.chunks = cell.chunks, []
            head, cell.head = cell.head, None
            cell.chunk_bytes = 0
            cell.announced = False
            self._channel.feed(cell)
            if cell.outcome is not None:
                del self.entries[request_id]
            return Taken(chunks, head, cell.outcome)

    def cancel(self, request_id: int) -> bool:
        """Nobody waits any more."""
        with self._channel.changed:
            cell = self.entries.pop(request_id, None)
            if cell is None:
                return True
            return self._channel.drop(cell)

    def fileno(self) -> int:
        """Readable when `collect` has something."""
        return self.bell.fileno()

    def close(self) -> None:
        """Give the place back."""
        if self._closed:
            return
        self._closed = True
        self._channel.reclaim("front", self._index)
        self.bell.close()


class MemoryWorkerPort:
    """A worker's end of a `MemoryChannel`."""

    def __init__(self, channel: MemoryChannel, index: int, endpoint: int, epoch: int) -> None:
        self._channel = channel
        self.index = index
        self.endpoint = endpoint
        self.epoch = epoch
        self.bell = Bell()
        self.listening = False
        self._closed = False

    def claim(self, max_entries: int, wait_s: float) -> list[ClaimedEntry]:
        """Take up to `max_entries` ready entries."""
        channel = self._channel
        with channel.changed:
            self._check()
            self.listening = False
            self.bell.quiet()
            claimed = channel.take(self, max_entries)
            if not claimed and wait_s > 0:
                channel.changed.wait_for(lambda: self._stale() or channel.ready(self), wait_s)
                self._check()
                claimed = channel.take(self, max_entries)
        return claimed

    def publish(self, entry: ClaimedEntry, outcome: Outcome, wait_s: float = 0.0) -> bool:
        """Give an entry its outcome."""
        channel = self._channel
        body = b"" if isinstance(outcome, Failure) else outcome.body
        size_bytes = _size(body)
        channel.check_size(size_bytes)
        body = body if isinstance(body, MemoryReservation) else bytes(body)
        with channel.changed:
            self._check()
            cell: Any = entry
            if cell.owner != (self.index, self.epoch) or cell.outcome is not None:
                raise StaleOwner(f"Entry {entry.id} is no longer held by worker {self.index}.")
            if isinstance(outcome, Chunk):
                return self._publish_chunk(cell, outcome, body, wait_s)
            if isinstance(outcome, Result):
                channel.finish(cell, Result(body, outcome.status, outcome.meta))
                channel.count(published_total=1, result_bytes_total=size_bytes)
            else:
                channel.finish(cell, outcome)
            return True

    def _publish_chunk(self, cell: MemoryEntry, chunk: Chunk, body: Any, wait_s: float) -> bool:
        channel = self._channel
        if not cell.cancelled and not channel.has_credit(cell, len(body)):
            cell.starved = True
            channel.changed.wait_for(
                lambda: self._stale() or cell.cancelled or channel.has_credit(cell, len(body)),
                wait_s,
            )
            self._check()
            if not cell.cancelled and not channel.has_credit(cell, len(body)):
                return False
            cell.starved = False
        if cell.cancelled:
            return True
        if cell.chunks_total == 0:
            cell.head = (chunk.status, chunk.meta)
            cell.first_chunk_ns = channel.clock()
            cell.state = EntryState.STREAMING
        cell.chunks_total += 1
        cell.chunk_bytes += len(body)
        cell.chunks.append(body)
        channel.count(chunks_total=1, result_bytes_total=len(body))
        channel.announce(cell)
        return True

    def reserve(self, size_bytes: int) -> MemoryReservation:
        """Room for a result body."""
        self._channel.check_size(size_bytes)
        return MemoryReservation(size_bytes)

    def listen(self) -> bool:
        """Ask for a ring at the next submit."""
        with self._channel.changed:
            self._check()
            if self._channel.ready(self):
                return False
            self.listening = True
            return True

    def fileno(self) -> int:
        """Readable at a ring."""
        return self.bell.fileno()

    def close(self) -> None:
        """Give the place back."""
        if self._closed:
            return
        with self._channel.changed:
            self._closed = True
            self._channel.leave(self)
            self.bell.close()

    def _stale(self) -> bool:
        return self._channel.epoch_of(self.index) != self.epoch or self._channel.closed

    def _check(self) -> None:
        self._channel.check_open(self._closed)
        if self._stale():
            raise StaleOwner(
                f"Worker {self.index} was reclaimed; its port is void. Open a new one."
            )
