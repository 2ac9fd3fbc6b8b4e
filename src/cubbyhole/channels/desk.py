# SPDX-License-Identifier: Apache-2.0
"""What a front keeps of its entries, for channels whose transport is a stream of messages and not shared memory.

The front is the only judge over its entries: it gives each to one worker at a time, and a result
counts only if it comes from the worker that holds the entry now. That makes claims exact without a
lock or a broker; the price is that a worker must ask the front, so a front that does not run its
event loop hands nothing out.

Flow:  submit -> ready heap (by rank) -> give -> held -> chunk*, finish | lost -> news -> collect
Owns:  entries from submit until they are collected, and their rows in the ledger.
"""

from __future__ import annotations

import heapq
from collections import deque
from itertools import count
from typing import Any

from cubbyhole.channels.held import (
    CLAIMED,
    CREDIT_BYTES,
    CREDIT_CHUNKS,
    DONE,
    FAILED,
    READY,
    STREAMING,
    Held,
    size_of,
)
from cubbyhole.channels.ledger import MASK, Field, Ledger, Word
from cubbyhole.core.clock import NEVER_NS, now_ns
from cubbyhole.core.entries import (
    POISON_AFTER,
    Collected,
    Failure,
    RequestEntry,
    Result,
    Taken,
    poison_failure,
)
from cubbyhole.core.errors import ChannelFull, EntryTooLarge

_GONE = RequestEntry(0, 0)


class Desk:
    """The entries of front `front`. It writes their rows only where the ledger is shown."""

    def __init__(self, front: int, ledger: Ledger) -> None:
        settings = ledger.settings
        self.ready = [0] * settings.endpoints  # unclaimed and not cancelled, for each endpoint
        self._ledger = ledger
        self._words = ledger.words
        self._cell = ledger.cell_at("front", front)
        self._front = front
        self._slots = settings.slots
        self._arena_bytes = settings.arena_bytes
        self._endpoints = settings.endpoints
        self._held: dict[int, Held] = {}
        self._heaps: list[list[tuple[int, int, Held]]] = [[] for _ in range(settings.endpoints)]
        self._deadlines: list[tuple[int, int]] = []
        self._sequence = count()
        self._news: list[Held] = []
        self._shown = ledger.shown
        self._rows = deque(ledger.row_at(front, slot) for slot in range(settings.slots))

    def __len__(self) -> int:
        return len(self._held)

    def admit(self, entry: RequestEntry) -> Held:
        """Take a new entry.

        Raises:
            ChannelFull: no slot or no room now.
            EntryTooLarge: the body is larger than all the room there is.
        """
        words, cell = self._words, self._cell
        size = size_of(entry.body)
        if size > self._arena_bytes:
            raise EntryTooLarge(
                f"Request body is {size:,} bytes, but the channel holds {self._arena_bytes:,}. "
                "Raise arena_bytes or send the data by reference."
            )
        if len(self._held) >= self._slots:
            raise ChannelFull(
                f"No free slot: {self._slots} of {self._slots} used in front {self._front}. "
                "Try again later, raise slots or add workers."
            )
        if words[cell + Word.ARENA_USED] + size > self._arena_bytes:
            raise ChannelFull(
                f"No room for {size:,} bytes: {words[cell + Word.ARENA_USED]:,} of {self._arena_bytes:,} bytes are used. "
                "Try again later or raise arena_bytes."
            )
        if not 0 <= entry.endpoint < self._endpoints:
            raise IndexError(f"endpoint {entry.endpoint}: this channel has {self._endpoints}.")
        now = now_ns()
        row = self._rows.popleft()
        held = Held(entry, row, size, now)
        held.sequence = next(self._sequence)
        if self._shown:
            self._ledger.write_row(
                row,
                (entry.id, READY, entry.endpoint, 0, 0, entry.rank & MASK, 0, entry.deadline_ns &
                MASK,
                 size, 0, 0, entry.received_ns, now, 0, 0, 0),
            )  # fmt: skip
        self._held[entry.id] = held
        if entry.deadline_ns != NEVER_NS:
            self._remember_deadline(entry)
        words[cell + Word.SUBMITTED] += 1
        words[cell + Word.USED] = len(self._held)
        words[cell + Word.REQUEST_BYTES] += size
        words[cell + Word.ARENA_USED] += size
        self._offer(held)
        return held

    def _remember_deadline(self, entry: RequestEntry) -> None:
        deadlines = self._deadlines
        if (
            len(deadlines) > 2 * len(self._held) + 1024
        ):  # most belong to entries that were answered in time
            deadlines[:] = [item for item in deadlines if item[1] in self._held]
            heapq.heapify(deadlines)
        heapq.heappush(deadlines, (entry.deadline_ns, entry.id))

    def _offer(self, held: Held) -> None:
        endpoint = held.entry.endpoint
        heap = self._heaps[endpoint]
        if len(heap) > 2 * self.ready[endpoint] + 1024:  # most were cancelled or expired
            heap[:] = [item for item in heap if item[2].state == READY]
            heapq.heapify(heap)
        heapq.heappush(heap, (held.entry.rank, held.sequence, held))
        self._count_ready(endpoint, 1)

    def _count_ready(self, endpoint: int, change: int) -> None:
        self.ready[endpoint] += change
        self._words[self._cell + Word.READY] += change
        self._words[self._ledger.hint_at(self._front, endpoint)] = self.ready[endpoint]

    def give(self, endpoint: int, limit: int, owner: Any, owner_index: int) -> list[Held]:
        """Hand up to `limit` entries to a worker, smallest rank first; expired ones are answered instead."""
        heap = self._heaps[endpoint]
        given: list[Held] = []
        now = now_ns()
        words = self._words
        while heap and len(given) < limit:
            held = heapq.heappop(heap)[2]
            if held.state != READY:
                continue  # cancelled or expired while it waited
            self._count_ready(endpoint, -1)
            if held.entry.deadline_ns <= now:
                self._expire(held)
                continue
            held.state = CLAIMED
            held.owner, held.owner_index = owner, owner_index
            held.claimed_ns = now
            given.append(held)
            if self._shown:
                row = held.row
                words[row + Field.STATE] = CLAIMED
                words[row + Field.OWNER] = owner_index + 1
                words[row + Field.CLAIMED] = now
                words[row + Field.ATTEMPT] = held.attempt
        if given:
            self._count_held(owner_index, len(given))
            words[self._cell + Word.CLAIMED] += len(given)
        return given

    def _count_held(self, worker: int, change: int) -> None:
        self._words[self._cell + Word.HELD] += change
        self._words[self._ledger.held_at(self._front, worker)] += change

    def _answer_expired(self) -> None:
        """Answer unclaimed entries whose deadline passed."""
        if self._deadlines:
            for request_id in self._due():
                self._expire_one(request_id)

    def _due(self) -> list[int]:
        """Return, once each, the ids of unclaimed entries whose deadline passed."""
        deadlines = self._deadlines
        now = now_ns()
        ids = []
        while deadlines and deadlines[0][0] <= now:
            request_id = heapq.heappop(deadlines)[1]
            held = self._held.get(request_id)
            if held is not None and held.state == READY:
                ids.append(request_id)
        return ids

    def _expire_one(self, request_id: int) -> None:
        """Answer an unclaimed entry whose deadline passed."""
        held = self._held.get(request_id)
        if held is not None and held.state == READY:
            self._count_ready(held.entry.endpoint, -1)
            self._expire(held)

    def _expire(self, held: Held) -> None:
        message = "The entry's deadline passed before a worker took it."
        self._end(held, Failure("expired", 504, "Request timed out", message=message))

    def finish(self, owner: Any, request_id: int, outcome: Result | Failure, done_ns: int) -> bool:
        """Take a final outcome; False if this worker does not hold the entry (any more)."""
        held = self._held.get(request_id)
        if held is None or held.owner is not owner or held.state not in (CLAIMED, STREAMING):
            return False
        words, cell = self._words, self._cell
        words[cell + Word.PUBLISHED] += 1
        if type(outcome) is Result:
            size = size_of(outcome.body)
            words[cell + Word.RESULT_BYTES] += size
            if self._shown:
                words[held.row + Field.RESULT_BYTES] += size
        held.done_ns = done_ns
        self._count_held(held.owner_index, -1)
        self._end(held, outcome)
        return True

    def _end(self, held: Held, outcome: Result | Failure) -> None:
        words = self._words
        failed = type(outcome) is not Result
        words[self._cell + Word.FAILED] += failed
        held.owner = None
        if held.cancelled:
            self._free(held)
            return
        if held.done_ns == 0:
            held.done_ns = now_ns()
        held.end = outcome
        held.state = DONE
        if self._shown:
            words[held.row + Field.DONE] = held.done_ns
            if failed:
                self._ledger.write_failure(held.row, outcome.code)  # type: ignore[union-attr]
            words[held.row + Field.STATE] = FAILED if failed else DONE
        if not held.news:
            held.news = True
            self._news.append(held)

    def chunk(self, owner: Any, request_id: int, body: bytes, head: tuple[int, bytes]) -> bool:
        """Take a part of a stream; False if this worker does not hold the entry (any more)."""
        held = self._held.get(request_id)
        if held is None or held.owner is not owner:
            return False
        words = self._words
        if held.chunks is None:
            held.chunks = []
            held.head = head
            held.first_ns = now_ns()
            held.state = STREAMING
            if self._shown:
                words[held.row + Field.FIRST_CHUNK] = held.first_ns
                words[held.row + Field.STATE] = STREAMING
        size = len(body)
        words[self._cell + Word.CHUNKS] += 1
        words[self._cell + Word.RESULT_BYTES] += size
        if self._shown:
            words[held.row + Field.CHUNKS] += 1
            words[held.row + Field.RESULT_BYTES] += size
        if not held.cancelled:
            held.chunks.append(body)
            if not held.news:
                held.news = True
                self._news.append(held)
        return True

    def collect(self) -> list[Collected]:
        """Answer what expired, and return what is new."""
        self._answer_expired()
        return self._take_news()

    def _take_news(self) -> list[Collected]:
        """Return what is new; final outcomes free their slots, ended streams stay until their chunks were taken."""
        if not self._news:
            return []
        news, self._news = self._news, []
        collected = []
        for held in news:
            held.news = False
            if held.cancelled:
                continue
            streamed = held.chunks is not None
            outcome = None if streamed else held.end
            collected.append(Collected(held.entry.id, outcome, held.times_ns()))
            if not streamed:
                self._free(held)
        return collected

    def take_chunks(self, request_id: int) -> tuple[Taken, Held | None]:
        """Return a stream's chunks, and the entry if its writer is owed credit."""
        held = self._held.get(request_id)
        if held is None or held.chunks is None:
            return Taken([], end=Failure("cancelled", 499, "Request cancelled")), None
        chunks, held.chunks = held.chunks, []
        head, held.head = held.head, None
        held.taken_chunks += len(chunks)
        held.taken_bytes += sum(map(len, chunks))
        taken = Taken(chunks, head, held.end)
        if held.end is not None:
            self._free(held)
            return taken, None
        owed = (
            held.taken_chunks - held.told_chunks >= CREDIT_CHUNKS // 4
            or held.taken_bytes - held.told_bytes >= CREDIT_BYTES // 4
        )
        if owed:
            held.told_chunks, held.told_bytes = held.taken_chunks, held.taken_bytes
        return taken, held if owed else None

    def cancel(self, request_id: int) -> bool:
        """Forget an unclaimed entry (True), or flag a claimed one."""
        held = self._held.get(request_id)
        if held is None:
            return True  # answered already, or never here
        if held.cancelled:
            return False
        held.cancelled = True
        self._words[self._cell + Word.CANCELLED] += 1
        if held.state == READY:
            held.state = DONE
            self._count_ready(held.entry.endpoint, -1)
            self._free(held)
            return True
        if held.state == DONE:
            self._free(held)
            return True
        self._words[held.row + Field.CANCELLED] = request_id
        return False

    def lost(self, owner: Any, *, tell: int = 0) -> int:
        """Take back what a vanished worker held: fail it, or offer it again. `tell` is the word that counts it."""
        mine = [held for held in self._held.values() if held.owner is owner]
        for held in mine:
            self._count_held(held.owner_index, -1)
            self._words[self._cell + Word.TAKEN_BACK] += 1
            again = held.entry.retry_on_death and held.chunks is None and not held.cancelled
            if again and held.attempt + 1 < POISON_AFTER:
                held.owner, held.owner_index = None, -1
                held.state = READY
                held.attempt += 1
                if self._shown:
                    self._words[held.row + Field.STATE] = READY
                    self._words[held.row + Field.ATTEMPT] = held.attempt
                self._offer(held)
                continue
            message = f"worker {held.owner_index} vanished while it held the entry"
            if again:
                self._end(held, poison_failure(message))
                continue
            detail = "The worker that held the request ended"
            died = Failure("worker_died", 503, detail, {"Retry-After": "1"}, message)
            self._end(held, died)
        if tell:
            self._words[tell] += len(mine)
        return len(mine)

    def _free(self, held: Held) -> None:
        words, cell = self._words, self._cell
        if self._held.pop(held.entry.id, None) is None:
            return
        words[cell + Word.USED] = len(self._held)
        words[cell + Word.ARENA_USED] -= held.size
        if self._shown:
            words[held.row + Field.STATE] = 0
        words[held.row + Field.CANCELLED] = 0
        self._rows.append(held.row)
        held.entry = _GONE  # the heap may keep the place a while; the body must not stay with it

    def clear(self) -> None:
        """Forget everything: the front leaves."""
        for held in list(self._held.values()):
            if held.state == READY:
                self._count_ready(held.entry.endpoint, -1)
            elif held.state != DONE:
                self._count_held(held.owner_index, -1)
            held.state = DONE
            self._free(held)
        self._news.clear()
