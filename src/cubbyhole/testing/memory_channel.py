# SPDX-License-Identifier: Apache-2.0
"""A channel within one process, for tests of fronts and workers that run as threads.

It keeps every rule of `channels.base` with one lock and plain objects, so that a test of a loop or
an exchange needs no second process and no native core. It does not pickle. Bodies reach the worker
as read-only views of what was submitted.

Flow:  front thread -> MemoryFrontPort -> **MemoryChannel** -> MemoryWorkerPort -> worker thread
Owns:  the queues of ready entries and the places of fronts and workers.
See:   testing/memory_ports.py (the ends), channels/base.py (the contract)
"""

from __future__ import annotations

import threading
from bisect import insort
from itertools import count
from typing import TYPE_CHECKING, TypeAlias, cast

from cubbyhole.channels.base import Capabilities, ChannelSettings
from cubbyhole.core.clock import now_ns
from cubbyhole.core.entries import (
    CANCELLED_BY_OPERATOR,
    POISON_AFTER,
    Collected,
    EntryState,
    Failure,
    poison_failure,
)
from cubbyhole.core.errors import ChannelClosed, EntryTooLarge
from cubbyhole.core.statistics import ChannelStatistics, EntrySnapshot
from cubbyhole.testing.memory_ports import MemoryEntry, MemoryFrontPort, MemoryWorkerPort

if TYPE_CHECKING:
    from collections.abc import Callable

    from cubbyhole.channels.base import Role
    from cubbyhole.core.entries import ClaimedEntry, Result
    from cubbyhole.core.history import EndpointHistograms

CREDIT_BYTES = (
    256 * 1024
)  # a stream holds so much before its writer waits; a larger chunk goes alone
Place: TypeAlias = tuple[int, int, MemoryEntry]  # rank, arrival


class MemoryChannel:
    """A `Channel` whose two sides are threads of one process.

    Args:
        settings: As for any channel.
        clock: Monotonic nanoseconds; a `FakeClock` makes deadlines pass at will.
        credit_bytes: What a stream may hold unread.
    """

    kind = "memory"
    capabilities = Capabilities(
        zero_copy=True,
        ranks=True,
        credit=True,
        visible=True,
        cancels_queued=True,
        in_place=True,
        operated=True,
    )

    def __init__(
        self,
        settings: ChannelSettings | None = None,
        clock: Callable[[], int] = now_ns,
        credit_bytes: int = CREDIT_BYTES,
    ) -> None:
        self.settings = settings or ChannelSettings()
        self.clock = clock
        self.credit_bytes = credit_bytes
        self.changed = threading.Condition(threading.RLock())
        self.closed = False
        self._ready: list[list[Place]] = [[] for _ in range(self.settings.endpoints)]
        self._arrivals = count()
        self._fronts: dict[int, MemoryFrontPort] = {}
        self._workers: dict[int, MemoryWorkerPort] = {}
        self._epochs: dict[int, int] = {}
        self._held: dict[int, MemoryEntry] = {}  # claimed or streaming, by id
        self._counts: dict[str, int] = {}

    @classmethod
    def create(cls, settings: ChannelSettings) -> MemoryChannel:
        """Make a channel, as `registry.create_channel` does."""
        return cls(settings)

    def front(self, index: int) -> MemoryFrontPort:
        """Open the port of a front."""
        with self.changed:
            self._fronts[index] = MemoryFrontPort(self, index)
            return self._fronts[index]

    def worker(self, index: int, endpoint: int) -> MemoryWorkerPort:
        """Open the port of a worker."""
        with self.changed:
            epoch = self._epochs.setdefault(index, 0)
            self._workers[index] = MemoryWorkerPort(self, index, endpoint, epoch)
            return self._workers[index]

    def reclaim(self, role: Role, index: int) -> int:
        """Free what a dead process held."""
        with self.changed:
            changed = (
                self._reclaim_worker(index) if role == "worker" else self._reclaim_front(index)
            )
            self.count(reclaimed_total=changed)
            self.changed.notify_all()
            return changed

    def cancel(self, request_id: int) -> bool | None:
        """Take an entry back for an operator."""
        with self.changed:
            entry = self._under_way(request_id)
            if entry is None:
                return None
            waits = entry.state is EntryState.READY
            port = self._fronts[entry.front]
            del port.entries[entry.id]
            self.drop(entry)
            port.withdrawn.append(Collected(entry.id, CANCELLED_BY_OPERATOR, entry.times_ns))
            port.bell.ring()
            return waits

    def rerank(self, request_id: int, rank: int) -> bool | None:
        """Give a waiting entry another rank."""
        with self.changed:
            entry = self._under_way(request_id)
            if entry is None or entry.state is not EntryState.READY:
                return None if entry is None else False
            arrival = next(a for _, a, one in self._ready[entry.endpoint] if one is entry)
            self._unqueue(entry)
            entry.rank = rank
            insort(self._ready[entry.endpoint], (rank, arrival, entry), key=lambda p: p[:2])
            return True

    def _under_way(self, request_id: int) -> MemoryEntry | None:
        held = (port.entries.get(request_id) for port in self._fronts.values())
        entry = next((one for one in held if one is not None), None)
        return None if entry is None or entry.outcome is not None else entry

    def snapshot(self) -> list[EntrySnapshot]:
        """Describe every entry."""
        with self.changed:
            entries = {e.id: e for port in self._fronts.values() for e in port.entries.values()}
            return [entry.snapshot() for entry in (entries | self._held).values()]

    def histograms(self) -> list[EndpointHistograms]:
        """See `Channel.histograms`: nothing is kept of what is over."""
        return []

    def statistics(self) -> ChannelStatistics:
        """Count."""
        with self.changed:
            bells = [port.bell for port in self._fronts.values()]
            bells += [port.bell for port in self._workers.values()]
            return ChannelStatistics(
                kind=self.kind,
                slots=self.settings.slots * self.settings.fronts,
                slots_used=sum(len(port.entries) for port in self._fronts.values()),
                ready=sum(map(len, self._ready)),
                claimed=len(self._held),
                rings_total=sum(bell.rings for bell in bells),
                arena_bytes=self.settings.arena_bytes,
                **self._counts,
            )

    def close(self) -> None:
        """End it; whoever waits gets `ChannelClosed`."""
        with self.changed:
            self.closed = True
            self.changed.notify_all()
            for port in self._workers.values():
                if port.listening:
                    port.bell.ring()

    # What the ports need, under the lock.

    def check_open(self, port_closed: bool) -> None:
        """Raise `ChannelClosed` unless both channel and port are open."""
        if self.closed or port_closed:
            raise ChannelClosed("The channel was closed. Open a new port.")

    def check_size(self, size_bytes: int) -> None:
        """Raise `EntryTooLarge` for what can never fit."""
        limit = self.settings.arena_bytes
        if size_bytes > limit:
            raise EntryTooLarge(
                f"Body is {size_bytes:,} bytes, the channel holds {limit:,}. Raise arena_bytes=."
            )

    def count(self, **amounts: int) -> None:
        """Add to counters, by their name in `ChannelStatistics`."""
        for name, amount in amounts.items():
            self._counts[name] = self._counts.get(name, 0) + amount

    def epoch_of(self, worker: int) -> int:
        """How often the place of a worker was reclaimed."""
        return self._epochs.get(worker, 0)

    def offer(self, entry: MemoryEntry) -> None:
        """Make an entry claimable and wake whoever waits for it."""
        entry.state = EntryState.READY
        arrival = next(self._arrivals)
        insort(
            self._ready[entry.endpoint], (entry.rank, arrival, entry), key=lambda place: place[:2]
        )
        self.changed.notify_all()
        for port in self._workers.values():
            if port.listening and port.endpoint == entry.endpoint:
                port.listening = False
                port.bell.ring()
                break

    def ready(self, port: MemoryWorkerPort) -> bool:
        """Whether a claim would find something."""
        queue = self._ready[port.endpoint]
        for _, _, entry in list(queue):
            self.expire(entry)
        return bool(queue)

    def take(self, port: MemoryWorkerPort, max_entries: int) -> list[ClaimedEntry]:
        """READY -> CLAIMED."""
        self.ready(port)
        queue = self._ready[port.endpoint]
        entries = [place[2] for place in queue[:max_entries]]
        del queue[:max_entries]
        for entry in entries:
            entry.state = EntryState.CLAIMED
            entry.owner = (port.index, port.epoch)
            entry.claimed_ns = self.clock()
            self._held[entry.id] = entry
        self.count(claimed_total=len(entries))
        return cast("list[ClaimedEntry]", entries)

    def expire(self, entry: MemoryEntry) -> None:
        """READY -> FAILED if the deadline has passed."""
        if entry.state is EntryState.READY and entry.deadline_ns <= self.clock():
            self._unqueue(entry)
            self.finish(entry, Failure("expired", 504, "Request timed out"))

    def finish(self, entry: MemoryEntry, outcome: Result | Failure) -> None:
        """Give an entry its final outcome; nobody hears of a cancelled one."""
        self._held.pop(entry.id, None)
        entry.done_ns = self.clock()
        entry.outcome = outcome
        failed = isinstance(outcome, Failure)
        entry.state = EntryState.FAILED if failed else EntryState.DONE
        if failed:
            self.count(failed_total=1)
        if not entry.cancelled:
            self.announce(entry)

    def announce(self, entry: MemoryEntry) -> None:
        """Tell the entry's front that there is something, once until it looks."""
        if entry.announced:
            return
        entry.announced = True
        port = self._fronts.get(entry.front)
        if port is not None:
            port.news.append(entry)
            port.bell.ring()

    def has_credit(self, entry: MemoryEntry, size_bytes: int) -> bool:
        """Whether a stream may hold `size_bytes` more."""
        return entry.chunk_bytes == 0 or entry.chunk_bytes + size_bytes <= self.credit_bytes

    def feed(self, entry: MemoryEntry) -> None:
        """Wake a stream's writer that waits for credit."""
        if entry.starved:
            entry.starved = False
            self.changed.notify_all()
            port = self._workers.get(entry.owner[0]) if entry.owner else None
            if port is not None:
                port.bell.ring()

    def drop(self, entry: MemoryEntry) -> bool:
        """Cancel; True if no worker will see the entry."""
        entry.cancelled = True
        self.count(cancelled_total=1)
        if entry.state is EntryState.READY:
            self._unqueue(entry)
            return True
        self.feed(entry)
        self.changed.notify_all()
        return entry.outcome is not None

    def leave(self, port: MemoryWorkerPort) -> None:
        """A worker closed its port."""
        if self._workers.get(port.index) is port:
            del self._workers[port.index]

    def _unqueue(self, entry: MemoryEntry) -> None:
        queue = self._ready[entry.endpoint]
        queue[:] = [place for place in queue if place[2] is not entry]

    def _reclaim_worker(self, index: int) -> int:
        self._epochs[index] = self.epoch_of(index) + 1
        held = [e for e in self._held.values() if e.owner is not None and e.owner[0] == index]
        for entry in held:
            if entry.cancelled:
                self._held.pop(entry.id)
            elif entry.attempt + 1 >= POISON_AFTER and entry.state is EntryState.CLAIMED:
                self.finish(entry, poison_failure("all in one process"))
            elif entry.retry_on_death and entry.state is EntryState.CLAIMED:
                self._held.pop(entry.id)
                entry.attempt += 1
                entry.owner = None
                self.offer(entry)
            else:
                detail = "The worker that ran this request ended. Try again."
                self.finish(entry, Failure("worker_died", 503, detail, {"Retry-After": "1"}))
        return len(held)

    def _reclaim_front(self, index: int) -> int:
        port = self._fronts.pop(index, None)
        if port is None:
            return 0
        entries = list(port.entries.values())
        port.entries.clear()
        for entry in entries:
            self.drop(entry)
        return len(entries)
