# SPDX-License-Identifier: Apache-2.0
"""A worker's end of a channel whose entries live in the fronts: ask, receive, answer.

With one front a waiting worker leaves its wish there and is given the next entry at once. With
several it may not leave a wish with each, or it would be given more than it asked for; there it
asks to be told, and then asks one front after the other. A wish that was not met in time is taken
back, so that no entry is handed to a worker that has gone on to something else.

Whoever waits reads for all: `claim` in one thread, a stream's writer without credit in another.

Flow:  claim -> Want -> (front) -> Given;  publish -> Final | Part | Broken;  Credit -> more Part
Owns:  one connection to each front, entries that arrived too late for the claim that asked for
       them.
"""

from __future__ import annotations

import selectors
import threading
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING, Any, ClassVar

from cubbyhole.channels.asked import AskedEntry, Line, make_reservation
from cubbyhole.channels.framing import (
    Broken,
    Credit,
    Final,
    Given,
    Have,
    Nothing,
    Notify,
    Part,
    Retract,
    Want,
)
from cubbyhole.channels.held import CREDIT_BYTES, CREDIT_CHUNKS, size_of
from cubbyhole.channels.ledger import Field, Ledger, Word
from cubbyhole.core.clock import now_ns
from cubbyhole.core.entries import Chunk, Result
from cubbyhole.core.errors import ChannelClosed, EntryTooLarge, StaleOwner

if TYPE_CHECKING:
    from collections.abc import Callable

    from cubbyhole.channels.asked import FrontLink, HeapReservation
    from cubbyhole.channels.framing import Message
    from cubbyhole.core.entries import Buffer, ClaimedEntry, Outcome

# how long an answer to a question may take; a front answers in 0.1 ms unless its loop is busy
_GRACE_S = 0.02
_RECHECK_S = 0.5  # a wake-up that went to a worker that has ended costs the others at most this


class AskingPort:
    """The worker port. `connect(front)` makes a `FrontLink`, or None where the front cannot be reached now."""

    def __init__(
        self, index: int, ledger: Ledger, connect: Callable[[int, int], FrontLink | None]
    ) -> None:
        self._index = index
        self._ledger = ledger
        self.words = ledger.words
        self._cell = ledger.cell_at("worker", index)
        self.life = ledger.begin_life("worker", index)
        self._connect = connect
        self._fronts = ledger.settings.fronts
        self._endpoint_hints: list[int] = []
        self._lines: list[Line | None] = [None] * self._fronts
        self._selector = selectors.DefaultSelector()
        self._pending: deque[AskedEntry] = deque()
        self._streams: dict[int, AskedEntry] = {}
        self._turn = 0
        self._closed = False
        self.condition = threading.Condition()
        self._reading = False

    def open(self, endpoint: int) -> AskingPort:
        """Connect to every front that can be reached."""
        self._endpoint_hints = [
            self._ledger.hint_at(front, endpoint) for front in range(self._fronts)
        ]
        self._connect_missing()
        return self

    # Connections --------------------------------------------------------------------------------
    # --------------

    def _connect_missing(self) -> None:
        words = self.words
        for front, line in enumerate(self._lines):
            reclaimed = words[self._ledger.cell_at("front", front) + Word.RECLAIMED]
            if line is not None:
                if not line.link.closed and line.front_reclaimed == reclaimed:
                    continue
                self.drop(line)
            link = self._connect(front, self.life)
            if link is not None:
                self._lines[front] = Line(front, link, reclaimed)
                self._selector.register(link.fileno(), selectors.EVENT_READ, self._lines[front])

    def drop(self, line: Line) -> None:
        """Forget a connection, and what came on it and was not claimed yet."""
        self._lines[line.front] = None
        self._selector.unregister(line.link.fileno())
        line.link.close()
        self._pending = deque(entry for entry in self._pending if entry.line is not line)

    def _check_life(self) -> None:
        if self._closed:
            raise ChannelClosed("This worker's port was closed. Open it again.")
        if self._ledger.is_reclaimed(self._cell, self.life):
            raise StaleOwner(
                f"Worker {self._index} was declared dead and its entries were given to others. "
                "Nothing of it counts any more: end the process, or open the port again."
            )

    def is_cancelled(self, entry: AskedEntry) -> bool:
        """Whether nobody waits for an entry; three loads."""
        line = entry.line
        words = self.words
        return (
            line.link.closed
            or words[entry.row + Field.CANCELLED] == entry.id
            or words[self._ledger.cell_at("front", line.front) + Word.RECLAIMED]
            != line.front_reclaimed
        )

    # Claiming -----------------------------------------------------------------------------------
    # --------------

    def claim(self, max_entries: int, wait_s: float) -> list[ClaimedEntry]:
        """See `WorkerPort.claim`."""
        self._check_life()
        deadline = monotonic() + wait_s
        refused: set[int] = set()
        while True:
            self._receive()
            if self._pending:
                return self._take(max_entries)
            self._connect_missing()
            line = self._next_line(refused)
            if line is not None:
                refused.add(line.front)
                self.ask(line, max_entries, stay=False)
                self._wait_answer(line, _GRACE_S)
                continue
            remaining = deadline - monotonic()
            if remaining <= 0:
                return []
            refused.clear()
            self._sleep(max_entries, min(remaining, _RECHECK_S))
            self._check_life()

    def _take(self, max_entries: int) -> list[ClaimedEntry]:
        pending = self._pending
        return [pending.popleft() for _ in range(min(max_entries, len(pending)))]

    def _next_line(self, refused: set[int]) -> Line | None:
        """The next front that announces entries, round and round."""
        for step in range(self._fronts):
            front = (self._turn + step) % self._fronts
            line = self._lines[front]
            if line and front not in refused and self.words[self._endpoint_hints[front]]:
                self._turn = front + 1
                return line
        return None

    def ask(self, line: Line, limit: int, *, stay: bool) -> None:
        """Ask a front for entries, unless it owes an answer already."""
        if not line.asked:
            line.asked = True
            self._send(line, Want(limit, stay))

    def _sleep(self, max_entries: int, wait_s: float) -> None:
        lines = [line for line in self._lines if line]
        if len(lines) == 1 == self._fronts:
            line = lines[0]
            self.ask(line, max_entries, stay=True)
            self._wait_answer(line, wait_s)
            if line.asked:
                self._send(line, Retract())
                self._wait_answer(line, _GRACE_S)
            return
        for line in lines:
            self._notify(line)
        self._wait(lambda: bool(self._pending) or not all(x.notified for x in lines), wait_s)

    def _wait_answer(self, line: Line, wait_s: float) -> None:
        self._wait(lambda: not line.asked, wait_s)

    def _notify(self, line: Line) -> None:
        if not line.notified:
            line.notified = True
            self._send(line, Notify())

    def listen(self) -> bool:
        """See `WorkerPort.listen`."""
        self._check_life()
        self._receive()
        self._connect_missing()
        if self._pending or any(self.words[hint] for hint in self._endpoint_hints):
            return False
        for line in self._lines:
            if line:
                self._notify(line)
        return True

    # Reading ------------------------------------------------------------------------------------
    # --------------

    def _receive(self) -> None:
        with self.condition:
            if self._reading:
                return  # somebody else reads, for all
            self._reading = True
        self._read(0)

    def _wait(self, done: Callable[[], bool], wait_s: float) -> None:
        """Read, or wait for whoever reads, until `done` or a connection is lost or the time is over."""
        deadline = monotonic() + wait_s
        while not done():
            remaining = deadline - monotonic()
            if remaining <= 0:
                return
            with self.condition:
                if self._reading:
                    self.condition.wait(remaining)
                    continue
                self._reading = True
            if self._read(remaining):
                return

    def _read(self, wait_s: float) -> bool:
        """Read once what comes within `wait_s`; returns whether a connection was lost."""
        lost = False
        try:
            for key, _events in self._selector.select(wait_s):
                line = key.data
                for message, body in line.link.receive():
                    self._take_by_type[type(message)](self, line, message, body)
                lost = lost or line.link.closed
        finally:
            with self.condition:
                self._reading = False
                self.condition.notify_all()
        return lost

    def _on_given(self, line: Line, given: Given, body: Buffer) -> None:
        entry = self.receive(line, given, body)
        if entry is not None:
            self._pending.append(entry)
        if not given.rest:
            line.asked = False

    def receive(self, line: Line, given: Given, body: Buffer) -> AskedEntry | None:
        """Make an entry of what a front gives."""
        return AskedEntry(self.is_cancelled, line, given, body)

    def _on_nothing(self, line: Line, _message: Nothing, _body: Buffer) -> None:
        line.asked = False

    def _on_have(self, line: Line, _message: Have, _body: Buffer) -> None:
        line.notified = False

    def _on_credit(self, line: Line, credit: Credit, _body: Buffer) -> None:
        entry = self._streams.get(credit.id)
        if entry is not None and entry.line is line:
            entry.chunks_taken, entry.bytes_taken = credit.chunks, credit.bytes

    _take_by_type: ClassVar[dict[type, Any]] = {
        Given: _on_given,
        Nothing: _on_nothing,
        Have: _on_have,
        Credit: _on_credit,
    }

    # Answering ----------------------------------------------------------------------------------
    # --------------

    def publish(self, entry: ClaimedEntry, outcome: Outcome, wait_s: float = 0.0) -> bool:
        """See `WorkerPort.publish`."""
        mine: Any = entry
        self._check_life()
        line: Line = mine.line
        if mine.done or line.link.closed or self._front_changed(line):
            raise StaleOwner(
                f"Entry {mine.id} is no longer this worker's: it was answered, or its front has gone. Drop it."
            )
        if type(outcome) is Chunk:
            return self._publish_chunk(mine, outcome, wait_s)
        if type(outcome) is Result:
            self._check_size(outcome.body)
            mine.done = True
            self.answer(mine, Final(mine.id, outcome.status, outcome.meta, now_ns()), outcome.body)
        else:
            mine.done = True
            self.answer(mine, Broken(mine.id, outcome, now_ns()))  # type: ignore[arg-type]
        self._streams.pop(mine.id, None)
        return True

    def _front_changed(self, line: Line) -> bool:
        cell = self._ledger.cell_at("front", line.front)
        return self.words[cell + Word.RECLAIMED] != line.front_reclaimed

    def _check_size(self, body: Buffer) -> None:
        limit = self._ledger.settings.arena_bytes
        if size_of(body) > limit:
            raise EntryTooLarge(
                f"The result has {size_of(body):,} bytes, but the channel holds {limit:,}. Raise arena_bytes."
            )

    def _publish_chunk(self, entry: AskedEntry, chunk: Chunk, wait_s: float) -> bool:
        self._check_size(chunk.body)
        if entry.cancelled:
            return True  # nobody reads it; the worker sees `cancelled` between chunks

        def has_credit() -> bool:
            return (
                entry.chunks - entry.chunks_taken < CREDIT_CHUNKS
                and entry.bytes_sent - entry.bytes_taken < CREDIT_BYTES
            ) or self.is_cancelled(entry)

        if not has_credit():
            if wait_s <= 0:
                self._receive()
            else:
                self._wait(has_credit, wait_s)
            if not has_credit():
                return False
        self._streams[entry.id] = entry
        entry.chunks += 1
        entry.bytes_sent += size_of(chunk.body)
        self.answer(entry, Part(entry.id, chunk.status, chunk.meta), chunk.body)
        return True

    def answer(self, entry: AskedEntry, message: Message, body: Buffer = b"") -> None:
        """Send what a worker publishes."""
        self._send(entry.line, message, body)

    def _send(self, line: Line, message: Message, body: Buffer = b"") -> None:
        """Send whole; waits while the front does not read, which is how a sleeping front slows its workers."""
        with line.sending:
            if line.link.send(message, body):
                return
            with selectors.DefaultSelector() as writable:
                writable.register(line.link.fileno(), selectors.EVENT_WRITE)
                while not line.link.flush():
                    writable.select(_RECHECK_S)
                    self._check_life()

    # The rest -----------------------------------------------------------------------------------
    # --------------

    def reserve(self, size_bytes: int) -> HeapReservation:
        """See `WorkerPort.reserve`."""
        return make_reservation(size_bytes, self._ledger)

    def fileno(self) -> int:
        """See `WorkerPort.fileno`."""
        return self._selector.fileno()

    def close(self) -> None:
        """See `WorkerPort.close`; the fronts see the end of the connection."""
        if not self._closed:
            for line in self._lines:
                if line:
                    self.drop(line)
            self._closed = True
            self._selector.close()
