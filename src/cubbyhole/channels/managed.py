# SPDX-License-Identifier: Apache-2.0
"""The managed dictionaries of the manager channel, and what is done to them in more than one place.

Each operation on a managed dict happens in the manager's process under its GIL, so one operation is atomic and nothing ever
holds a lock there: a managed Lock or Condition would stay locked for ever if its holder were killed.

    ready[e]    Place -> (body, meta); sorted, the places are in the order in which they are claimed
    owners      id -> Owner; whoever puts it there first (`setdefault`) has the entry: a worker, its canceller or its deadline
    streams     id -> when its first chunk was published
    outbox[f]   (id, number) -> Answer

Flow:  front puts the place -> worker owners.setdefault, takes the place -> outbox -> front takes it and forgets
Owns:  nothing; the manager's process owns all of it.
See:   manager.py
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from cubbyhole.core.clock import now_ns
from cubbyhole.core.entries import POISON_AFTER, Failure, poison_failure

if TYPE_CHECKING:
    from multiprocessing.managers import DictProxy, SyncManager
    from threading import Event

    from cubbyhole.channels.base import ChannelSettings

NOBODY = -1  # cancelled, expired, or its worker died: no worker may have it
LAST = 1 << 40  # the number of a final answer: after any chunk's


class Place(NamedTuple):
    """An entry without its body."""

    rank: int
    ready_ns: int
    id: int
    deadline_ns: int
    attempt: int
    front: int
    endpoint: int
    retry_on_death: bool
    received_ns: int
    size: int
    row: int


class Owner(NamedTuple):
    """Who has an entry."""

    worker: int
    life: int
    claimed_ns: int
    place: Place


class Answer(NamedTuple):
    """A part of what came of an entry."""

    owner: Owner
    # (whether it is a chunk, body, status, meta); None: its worker died, offer it again
    outcome: tuple[bool, bytes, int, bytes] | Failure | None
    at_ns: int


class ManagedDictionaries:
    """The proxies. They pickle into children, with the manager's key; no stranger gets past that."""

    def __init__(self, manager: SyncManager, settings: ChannelSettings) -> None:
        endpoints, fronts = range(settings.endpoints), range(settings.fronts)
        self.owners: DictProxy[int, Owner] = manager.dict()
        self.streams: DictProxy[int, int] = manager.dict()
        self.ready: list[DictProxy[Place, tuple[bytes, bytes]]] = [
            manager.dict() for _ in endpoints
        ]
        self.outbox: list[DictProxy[tuple[int, int], Answer]] = [manager.dict() for _ in fronts]
        self.work: list[Event] = [manager.Event() for _ in endpoints]
        self.news: list[Event] = [manager.Event() for _ in fronts]

    def offer(self, place: Place, body: bytes, meta: bytes) -> None:
        """Make an entry claimable and wake the workers of its endpoint."""
        self.ready[place.endpoint][place] = (body, meta)
        self.work[place.endpoint].set()

    def withdraw(self, place: Place) -> None:
        """Make an entry unclaimable."""
        self.ready[place.endpoint].pop(place, None)

    def answer(self, request_id: int, number: int, answer: Answer) -> None:
        """Put what came of an entry where its front looks."""
        front = answer.owner.place.front
        self.outbox[front][request_id, number] = answer
        self.news[front].set()

    def release_worker(self, worker: int, life: int) -> int:
        """Fail or offer again what a worker held in a life that is over; returns how many that were."""
        count = 0
        for request_id, owner in self.owners.copy().items():
            if owner.worker != worker or owner.life > life:
                continue
            place = owner.place
            if (request_id, LAST) in self.outbox[place.front]:
                continue  # it was answered before the death
            outcome = None
            if place.attempt + 1 >= POISON_AFTER and request_id not in self.streams:
                outcome = poison_failure(f"worker {worker} was the last of {POISON_AFTER}")
            elif not place.retry_on_death or request_id in self.streams:
                outcome = Failure(
                    "worker_died",
                    503,
                    "The worker that held the request ended",
                    {"Retry-After": "1"},
                    f"worker {worker} vanished while it held the entry",
                )
            by_nobody = owner._replace(worker=NOBODY)
            self.owners[request_id] = by_nobody  # a second look finds nothing of this worker's
            self.answer(request_id, LAST, Answer(by_nobody, outcome, now_ns()))
            count += 1
        return count

    def release_front(self, front: int) -> None:
        """Forget all entries of a front that has gone."""
        for ready in self.ready:
            for place in ready.keys():  # noqa: SIM118  (a proxy)
                if place.front == front:
                    ready.pop(place, None)
        for request_id, owner in self.owners.copy().items():
            if owner.place.front == front:
                self.owners.pop(request_id, None)
                self.streams.pop(request_id, None)
        self.outbox[front].clear()

    def places(self, endpoint: int) -> list[Place]:
        """Return what waits, in the order in which it is to be claimed."""
        return sorted(self.ready[endpoint].keys())

    def close(self) -> None:
        """Let the proxies go, which closes this process's connections to the manager."""
        vars(self).clear()
