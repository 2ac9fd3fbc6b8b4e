# SPDX-License-Identifier: Apache-2.0
"""A front's end of the manager channel: nothing that takes a round trip to the manager happens on its event loop.

Flow:  submit -> orders -> (sending thread) dicts;  outbox -> (fetching thread) -> answers -> ring -> collect
Owns:  two threads, the desk, a descriptor.
See:   manager.py, managed.py
"""

from __future__ import annotations

import os
import threading
from collections import deque
from typing import TYPE_CHECKING, Any

from cubbyhole.channels.asked import HeapReservation, make_reservation
from cubbyhole.channels.ledger import Ledger, Word
from cubbyhole.channels.managed import NOBODY, Answer, ManagedDictionaries, Owner, Place
from cubbyhole.channels.managed_desk import DistantDesk
from cubbyhole.core.clock import now_ns
from cubbyhole.core.entries import Collected, Failure, Result, Taken
from cubbyhole.core.errors import ChannelClosed

if TYPE_CHECKING:
    from cubbyhole.core.entries import RequestEntry

RECHECK_S = 0.5  # an Event that another worker cleared costs at most this
COPIES_A_HOP = 4  # pickled, into the kernel, out of it, unpickled
GONE = (EOFError, OSError)  # the manager's process has ended


class Ring:
    """A descriptor that a thread makes readable."""

    def __init__(self) -> None:
        self.fd, self._ring_fd = os.pipe()
        os.set_blocking(self.fd, False)
        os.set_blocking(self._ring_fd, False)

    def ring(self) -> None:
        """Make it readable."""
        try:
            os.write(self._ring_fd, b"!")
        except BlockingIOError:
            return  # readable enough

    def quiet(self) -> None:
        """Make it unreadable."""
        try:
            os.read(self.fd, 4096)
        except BlockingIOError:
            return

    def close(self) -> None:
        """Close it."""
        os.close(self.fd)
        os.close(self._ring_fd)


class ManagedFront:
    """A front's port: see `FrontPort`. Two threads do what takes a round trip to the manager."""

    def __init__(self, index: int, ledger: Ledger, dicts: ManagedDictionaries) -> None:
        self._index = index
        self._ledger = ledger
        self._words = ledger.words
        self._cell = ledger.cell_at("front", index)
        self._life = 0
        self._dicts = dicts
        self._desk: DistantDesk
        self._places: dict[int, Place] = {}
        self._bodies: dict[int, tuple[bytes, bytes]] = {}  # of those that may be offered again
        self._last_ns = 0
        self._orders: deque[tuple[Any, ...]] = deque()
        self._wanted = threading.Semaphore(0)
        self._answers: deque[tuple[int, Answer]] = deque()
        self._streamed: set[int] = set()
        self._ring = Ring()
        self._closed = False
        self._broken = False
        self._threads = [
            threading.Thread(target=act, name=f"managed-front-{index}", daemon=True)
            for act in (self._send, self._fetch)
        ]

    def open(self) -> ManagedFront:
        """Begin a life of this front."""
        self._life = self._ledger.begin_life("front", self._index)
        self._desk = DistantDesk(self._index, self._ledger)
        for thread in self._threads:
            thread.start()
        return self

    def _check_life(self) -> None:
        reclaimed = self._ledger.is_reclaimed(self._cell, self._life)
        if self._closed or self._broken or reclaimed:
            raise ChannelClosed(
                f"Front {self._index} was closed or declared dead, or the manager's process has ended. "
                "Open its port again, or restart the server."
            )

    # Sending, in a thread -------------------------------------------------------------------------------------

    def submit(self, entry: RequestEntry) -> None:
        """See `FrontPort.submit`."""
        self._check_life()
        held = self._desk.admit(entry)
        # Entries of equal rank keep their order by this, so no two may be the same.
        self._last_ns = max(self._last_ns + 1, held.ready_ns)
        place = Place(
            entry.rank,
            self._last_ns,
            entry.id,
            entry.deadline_ns,
            0,
            self._index,
            entry.endpoint,
            entry.retry_on_death,
            entry.received_ns,
            held.size,
            held.row,
        )
        self._places[entry.id] = place
        body = bytes(entry.body)
        if entry.retry_on_death:
            self._bodies[entry.id] = (body, entry.meta)
        self._words[self._cell + Word.COPIED_BYTES] += held.size * COPIES_A_HOP
        self._order(self._put, place, body, entry.meta)

    def _order(self, act: Any, *args: Any) -> None:
        self._orders.append((act, *args))
        self._wanted.release()

    def _send(self) -> None:
        try:
            while True:
                self._wanted.acquire()
                act, *args = self._orders.popleft()
                if act is None:
                    return
                act(*args)
        except GONE:
            self._break()

    def _put(self, place: Place, body: bytes, meta: bytes) -> None:
        if place.id in self._places:  # else it was cancelled before it was sent
            self._dicts.offer(place, body, meta)

    def _offer_again(self, former: Place, place: Place) -> None:
        self._dicts.withdraw(former)  # if its worker died before it took it from there
        self._dicts.owners.pop(former.id, None)
        self._put(place, *self._bodies[place.id])

    def _forget(self, place: Place, claimed: bool, streamed: bool) -> None:
        if not claimed:
            self._dicts.withdraw(place)
        if streamed:
            self._dicts.streams.pop(place.id, None)
        self._dicts.owners.pop(place.id, None)

    def _break(self) -> None:
        self._broken = True
        self._ring.ring()

    # Fetching, in a thread ------------------------------------------------------------------------------------

    def _fetch(self) -> None:
        outbox, news = self._dicts.outbox[self._index], self._dicts.news[self._index]
        try:
            while not self._closed:
                due_s = (self._desk.next_deadline_ns() - now_ns()) / 1e9
                if news.wait(max(0.01, min(RECHECK_S, due_s))):
                    news.clear()
                for key in sorted(outbox.keys()):
                    answer = outbox.pop(key, None)
                    if answer is not None:  # else this front was declared dead meanwhile
                        self._answers.append((key[0], answer))
                if self._answers or due_s <= 0:
                    self._ring.ring()
        except GONE:
            if not self._closed:
                self._break()

    def collect(self) -> list[Collected]:
        """See `FrontPort.collect`."""
        self._ring.quiet()
        self._check_life()
        answers = self._answers
        while answers:
            self._take(*answers.popleft())
        for request_id in self._desk.due():
            self._order(self._expire, self._places[request_id])
        return self._desk.news()

    def _expire(self, place: Place) -> None:
        """In the sending thread: an entry whose deadline passed is claimed by nobody, unless a worker was first."""
        nobody = Owner(NOBODY, self._life, 0, place)
        if self._dicts.owners.setdefault(place.id, nobody).worker == NOBODY:
            failure = Failure(
                "expired",
                504,
                "Request timed out",
                message="The entry's deadline passed before a worker took it.",
            )
            self._answers.append((place.id, Answer(nobody, failure, now_ns())))
            self._ring.ring()

    def _take(self, request_id: int, answer: Answer) -> None:
        place = self._places.get(request_id)
        if place is None:
            return
        owner, outcome = answer.owner, answer.outcome
        if outcome is None:
            again = place._replace(attempt=place.attempt + 1)
            self._places[request_id] = again
            self._order(self._offer_again, place, again)
            return
        by_worker = owner.worker != NOBODY
        if by_worker:
            self._desk.claimed(request_id, self, owner.worker, owner.claimed_ns)
        if not isinstance(outcome, Failure):
            is_chunk, body, status, meta = outcome
            if is_chunk:
                self._streamed.add(request_id)
                self._desk.chunk(self, request_id, body, (status, meta))
                return
            self._desk.finish(self, request_id, Result(body, status, meta), answer.at_ns)
        elif by_worker:
            self._desk.finish(self, request_id, outcome, answer.at_ns)
        else:  # its worker died, or its deadline passed
            self._desk.fail(request_id, outcome)
        self._done(place, claimed=by_worker)

    def _done(self, place: Place, *, claimed: bool) -> None:
        del self._places[place.id]
        self._bodies.pop(place.id, None)
        streamed = place.id in self._streamed
        self._streamed.discard(place.id)
        self._order(self._forget, place, claimed, streamed)

    def take_chunks(self, request_id: int) -> Taken:
        """See `FrontPort.take_chunks`."""
        return self._desk.take_chunks(request_id)[0]

    def cancel(self, request_id: int) -> bool:
        """See `FrontPort.cancel`: asks the manager, which takes a round trip."""
        place = self._places.get(request_id)
        if place is None:
            return self._desk.cancel(request_id)
        nobody = Owner(NOBODY, self._life, 0, place)
        try:
            owner = self._dicts.owners.setdefault(request_id, nobody)
        except GONE as error:
            raise ChannelClosed("The manager's process has ended. Restart the server.") from error
        if owner.worker == NOBODY:
            self._desk.cancel(request_id)
            self._done(place, claimed=False)
            return True
        self._desk.claimed(request_id, self, owner.worker, owner.claimed_ns)
        return self._desk.cancel(request_id)

    def reserve(self, size_bytes: int) -> HeapReservation:
        """See `FrontPort.reserve`."""
        return make_reservation(size_bytes, self._ledger)

    def fileno(self) -> int:
        """See `FrontPort.fileno`."""
        return self._ring.fd

    def close(self) -> None:
        """See `FrontPort.close`."""
        if self._closed:
            return
        self._closed = True
        self._places.clear()
        if not self._ledger.is_reclaimed(self._cell, self._life):
            self._desk.clear()
            self._ledger.reclaim("front", self._index)  # its workers see that nobody waits
            self._order(self._dicts.release_front, self._index)
        self._order(None)
        try:
            self._dicts.news[self._index].set()
        except GONE:
            self._broken = True
        for thread in self._threads:
            thread.join()
        self._ring.close()
