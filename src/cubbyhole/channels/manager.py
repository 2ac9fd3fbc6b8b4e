# SPDX-License-Identifier: Apache-2.0
"""Entries in `multiprocessing.Manager().dict()`s: the "managed dict" that the article recommends, as the standard library has it.

A managed dict is a plain dict in a third process. Every access pickles its arguments, crosses a Unix socket, is unpickled, done
under that process's GIL, and its result comes back the same way. So a request's body is pickled and copied on four hops. Pickle
is unavoidable here; only the supervisor's own children have the manager's key, and nothing that a client sent is unpickled but
as `bytes` in a tuple.

What had to be done so that it serves well:
- Nobody polls. Workers of an endpoint sleep on one managed Event, each front on another; an Event per request would need a thread
  per request in the front, as a proxy can only be waited for by blocking.
- An access takes 60 us and more, so the event loop makes none: a thread sends what `submit` was given, another fetches answers and
  rings a descriptor. Only `cancel` asks directly, because it has to know.
- No managed Lock, Condition or Queue: a process that is killed inside one keeps the lock, or takes an item along. Entries are
  claimed by `owners.setdefault`, which is one atomic operation.
- The manager's socket has an abstract name on Linux, and its process ends with the supervisor: else a directory and a process stay
  behind after kill -9.

Counters, `cancelled` and who was declared dead are not in the dicts but in a `ledger`: they are looked at between tokens, where 60 us
are too long. Entries are visible from any process, ordered by rank, and can be taken back; a stream's writer is not slowed.

Flow:  submit -> (thread) dicts -> claim: owners.setdefault -> publish -> outbox -> (thread) -> collect
Owns:  the manager's process, until `close`.
See:   managed.py (the dicts)
"""

from __future__ import annotations

import multiprocessing
import os
import secrets
import signal
import sys
import threading
from contextlib import contextmanager, suppress
from multiprocessing.managers import SyncManager
from time import monotonic
from typing import TYPE_CHECKING, Any

import msgspec

from cubbyhole.channels.asked import HeapReservation, make_reservation
from cubbyhole.channels.base import Capabilities, ChannelSettings, NoOperator, Role
from cubbyhole.channels.held import size_of
from cubbyhole.channels.ledger import Field, Ledger, Word
from cubbyhole.channels.managed import LAST, NOBODY, Answer, ManagedDictionaries, Owner, Place
from cubbyhole.channels.managed_front import COPIES_A_HOP, GONE, RECHECK_S, ManagedFront, Ring
from cubbyhole.core.clock import now_ns
from cubbyhole.core.entries import Chunk, EntryState, Result
from cubbyhole.core.errors import ChannelClosed, EntryTooLarge, StaleOwner
from cubbyhole.core.statistics import EntrySnapshot

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cubbyhole.core.entries import ClaimedEntry, Outcome
    from cubbyhole.core.history import EndpointHistograms
    from cubbyhole.core.statistics import ChannelStatistics


def _end_with_parent() -> None:
    """In the manager's process: end when the process that started it ends, however that happens."""
    signal.signal(
        signal.SIGTERM, signal.SIG_IGN
    )  # sent to the whole group, it must not end before the drain
    parent = multiprocessing.parent_process()

    def wait() -> None:
        if parent is not None:
            parent.join()
        os._exit(0)

    threading.Thread(target=wait, name="end-with-parent", daemon=True).start()


@contextmanager
def _telling() -> Iterator[None]:
    """Say what has happened where an access finds no manager."""
    try:
        yield
    except GONE as error:
        raise ChannelClosed("The manager's process has ended. Restart the server.") from error


class ManagedEntry:
    """An entry in a worker's hands."""

    __slots__ = ("body", "chunks", "done", "front_at", "front_reclaimed", "meta", "owner", "words")

    def __init__(self, owner: Owner, request: tuple[bytes, bytes], ledger: Ledger) -> None:
        self.owner = owner
        self.body, self.meta = request
        self.chunks = 0
        self.done = False
        self.words = ledger.words
        self.front_at = ledger.cell_at("front", owner.place.front) + Word.RECLAIMED
        self.front_reclaimed = self.words[self.front_at]

    @property
    def id(self) -> int:
        """The request."""
        return self.owner.place.id

    @property
    def deadline_ns(self) -> int:
        """When it is too late to start."""
        return self.owner.place.deadline_ns

    @property
    def attempt(self) -> int:
        """How many workers died holding it."""
        return self.owner.place.attempt

    @property
    def cancelled(self) -> bool:
        """Whether nobody waits any more."""
        place = self.owner.place
        return self.words[place.row + Field.CANCELLED] == place.id or self.front_has_gone

    @property
    def front_has_gone(self) -> bool:
        """Whether the front that submitted it was declared dead or closed."""
        return self.words[self.front_at] != self.front_reclaimed


class ManagedWorker:
    """A worker's port: see `WorkerPort`."""

    def __init__(
        self, index: int, endpoint: int, ledger: Ledger, dicts: ManagedDictionaries
    ) -> None:
        self._index = index
        self._endpoint = endpoint
        self._ledger = ledger
        self._words = ledger.words
        self._cell = ledger.cell_at("worker", index)
        self._life = ledger.begin_life("worker", index)
        self._dicts = dicts
        self._ring = Ring()
        self._closed = False
        self._listening = threading.Event()
        self._listener: threading.Thread | None = None

    def _check_life(self) -> None:
        if self._closed:
            raise ChannelClosed("This worker's port was closed. Open it again.")
        if self._ledger.is_reclaimed(self._cell, self._life):
            raise StaleOwner(
                f"Worker {self._index} was declared dead and its entries were given to others. "
                "Nothing of it counts any more: end the process, or open the port again."
            )

    # Claiming -------------------------------------------------------------------------------------------------

    def claim(self, max_entries: int, wait_s: float) -> list[ClaimedEntry]:
        """See `WorkerPort.claim`."""
        deadline = monotonic() + wait_s
        self._ring.quiet()
        work = self._dicts.work[self._endpoint]
        with _telling():
            while True:
                self._check_life()
                claimed = self._claim_now(max_entries)
                remaining = deadline - monotonic()
                if claimed or remaining <= 0:
                    return claimed
                if work.wait(min(remaining, RECHECK_S)):
                    work.clear()

    def _claim_now(self, max_entries: int) -> list[ClaimedEntry]:
        places = self._dicts.places(self._endpoint)
        claimed: list[ClaimedEntry] = []
        looked_at = 0
        for place in places:
            if len(claimed) == max_entries:
                break
            looked_at += 1
            if place.deadline_ns > now_ns():  # else its front will answer that it expired
                entry = self._claim_one(place)
                if entry is not None:
                    claimed.append(entry)
        if looked_at < len(places):
            self._dicts.work[self._endpoint].set()  # for another worker: this one cleared the Event
        return claimed

    def _claim_one(self, place: Place) -> ClaimedEntry | None:
        owners, ready = self._dicts.owners, self._dicts.ready[self._endpoint]
        owner = Owner(self._index, self._life, now_ns(), place)
        if owners.setdefault(place.id, owner) != owner:
            return None
        request = ready.pop(place, None)
        if request is None:
            owners.pop(place.id, None)  # it was cancelled meanwhile, and is forgotten already
            return None
        self._words[self._cell + Word.CLAIMED] += 1
        self._words[self._cell + Word.COPIED_BYTES] += COPIES_A_HOP * place.size
        return ManagedEntry(owner, request, self._ledger)

    def listen(self) -> bool:
        """See `WorkerPort.listen`: a thread waits for the Event and rings."""
        self._check_life()
        if self._listener is None:
            self._listener = threading.Thread(target=self._listen, name="listener", daemon=True)
            self._listener.start()
        with _telling():
            places = self._dicts.places(self._endpoint)
        if any(place.deadline_ns > now_ns() for place in places):
            return False
        self._listening.set()
        return True

    def _listen(self) -> None:
        work, ready = self._dicts.work[self._endpoint], self._dicts.ready[self._endpoint]
        try:
            while not self._closed:
                self._listening.wait()
                if work.wait(RECHECK_S) or len(ready):
                    work.clear()
                    self._listening.clear()
                    self._ring.ring()
        except GONE:
            self._ring.ring()  # the next claim says why

    # Answering ------------------------------------------------------------------------------------------------

    def publish(self, entry: ClaimedEntry, outcome: Outcome, wait_s: float = 0.0) -> bool:  # noqa: ARG002
        """See `WorkerPort.publish`; there is no credit, so a chunk is always taken."""
        mine: Any = entry
        self._check_life()
        if mine.done or mine.front_has_gone:
            raise StaleOwner(
                f"Entry {mine.id} is no longer this worker's: it was answered, or its front has gone. Drop it."
            )
        with _telling():
            if type(outcome) is Chunk:
                if not mine.cancelled:
                    self._publish_chunk(mine, outcome)
                return True
            final: Any = outcome
            if type(outcome) is Result:
                final = self._record(outcome, is_chunk=False)
            mine.done = True
            self._dicts.answer(mine.id, LAST, Answer(mine.owner, final, now_ns()))
        return True

    def _publish_chunk(self, entry: ManagedEntry, chunk: Chunk) -> None:
        record = self._record(chunk, is_chunk=True)
        if entry.chunks == 0:
            self._dicts.streams[entry.id] = now_ns()
        entry.chunks += 1
        self._dicts.answer(entry.id, entry.chunks, Answer(entry.owner, record, now_ns()))

    def _record(self, part: Result | Chunk, *, is_chunk: bool) -> tuple[bool, bytes, int, bytes]:
        limit = self._ledger.settings.arena_bytes
        size = size_of(part.body)
        if size > limit:
            raise EntryTooLarge(
                f"The result has {size:,} bytes, but the channel holds {limit:,}. Raise arena_bytes."
            )
        self._words[self._cell + Word.COPIED_BYTES] += 2 * COPIES_A_HOP * size
        return is_chunk, bytes(part.body), part.status, part.meta

    def reserve(self, size_bytes: int) -> HeapReservation:
        """See `WorkerPort.reserve`."""
        return make_reservation(size_bytes, self._ledger)

    def fileno(self) -> int:
        """See `WorkerPort.fileno`."""
        return self._ring.fd

    def close(self) -> None:
        """See `WorkerPort.close`; what it still holds fails or is offered again."""
        if self._closed:
            return
        self._closed = True
        self._listening.set()
        if self._listener is not None:
            self._listener.join()
        with suppress(*GONE):  # then nobody is left to be told
            self._dicts.release_worker(self._index, self._life)
        self._ring.close()


class ManagedDictChannel(NoOperator):
    """The channel: see `Channel`."""

    kind = "manager"
    capabilities = Capabilities(
        zero_copy=False,
        ranks=True,
        credit=False,
        visible=True,
        cancels_queued=True,
        in_place=False,
    )

    def __init__(
        self, ledger: Ledger, dicts: ManagedDictionaries, manager: SyncManager | None = None
    ) -> None:
        self._ledger = ledger
        self._dicts = dicts
        self._manager = manager
        self._pid = os.getpid()

    @classmethod
    def create(cls, settings: ChannelSettings) -> ManagedDictChannel:
        """Make the channel, and the manager's process, in the supervisor."""
        address = f"\0cubbyhole-{secrets.token_hex(16)}" if sys.platform == "linux" else None
        manager = SyncManager(address, ctx=multiprocessing.get_context("spawn"))
        manager.start(initializer=_end_with_parent)
        dicts = ManagedDictionaries(manager, settings)
        return cls(Ledger.create(settings, shown=False), dicts, manager)

    def __reduce__(self) -> tuple[Any, ...]:
        return ManagedDictChannel, (self._ledger, self._dicts)

    def front(self, index: int) -> ManagedFront:
        """See `Channel.front`."""
        return ManagedFront(index, self._ledger, self._dicts).open()

    def worker(self, index: int, endpoint: int) -> ManagedWorker:
        """See `Channel.worker`."""
        return ManagedWorker(index, endpoint, self._ledger, self._dicts)

    def reclaim(self, role: Role, index: int) -> int:
        """See `Channel.reclaim`."""
        cell = self._ledger.cell_at(role, index)
        count = self._ledger.reclaim(role, index)  # first, so that nothing more is published
        if role == "front":
            self._dicts.release_front(index)
            return count
        life = self._ledger.words[cell + Word.RECLAIMED]
        count = self._dicts.release_worker(index, life)
        self._ledger.words[cell + Word.TAKEN_BACK] += count
        return count

    def snapshot(self) -> list[EntrySnapshot]:
        """See `Channel.snapshot`: copies of managed dicts, one after the other."""
        streams = self._dicts.streams.copy()
        held = self._dicts.owners.copy()
        nobody = {
            place.id: Owner(NOBODY, 0, 0, place)
            for endpoint in range(self._ledger.settings.endpoints)
            for place in self._dicts.places(endpoint)
        }
        return [
            self._entry(owner, owner.place, streams.get(owner.place.id, 0), waits)
            for owners, waits in ((held, False), (nobody, True))
            for request_id, owner in owners.items()
            if not waits or request_id not in held
        ]

    def _entry(self, owner: Owner, place: Place, first_ns: int, waits: bool) -> EntrySnapshot:
        state = EntryState.READY if waits else EntryState.CLAIMED
        return EntrySnapshot(
            id=place.id,
            endpoint=place.endpoint,
            state=(EntryState.STREAMING if first_ns else state).name,
            front=place.front,
            owner=owner.worker,
            attempt=place.attempt,
            rank=place.rank,
            cancelled=self._ledger.words[place.row + Field.CANCELLED] == place.id,
            deadline_ns=place.deadline_ns,
            request_bytes=place.size,
            received_ns=place.received_ns,
            ready_ns=place.ready_ns,
            claimed_ns=owner.claimed_ns,
            first_chunk_ns=first_ns,
        )

    def histograms(self) -> list[EndpointHistograms]:
        """See `Channel.histograms`: nothing is kept of what is over."""
        return []

    def statistics(self) -> ChannelStatistics:
        """See `Channel.statistics`; asks the manager how many wait and how many are held."""
        answered = {key[0] for box in self._dicts.outbox for key in box.keys() if key[1] == LAST}  # noqa: SIM118
        return msgspec.structs.replace(
            self._ledger.statistics(self.kind),
            ready=sum(len(ready) for ready in self._dicts.ready),
            claimed=sum(
                owner.worker != NOBODY and request_id not in answered
                for request_id, owner in self._dicts.owners.copy().items()
            ),
        )

    def close(self) -> None:
        """See `Channel.close`; in the process that made it, the manager's process ends."""
        if self._manager is not None and self._pid == os.getpid():
            self._manager.shutdown()
        self._manager = None
        self._dicts.close()
        self._ledger.close()
