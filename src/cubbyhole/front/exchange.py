# SPDX-License-Identifier: Apache-2.0
"""id -> waiter: who in this front waits for which entry.

Flow:  lane.py -> **submit** (waiter first, then the channel) -> ... -> **collector** (the port's descriptor) -> waiter's future
Owns:  the waiters, the front's port, one timer. Entries and their outcomes are in the channel.
See:   docs/design/request-path.md, channels/base.py

One reader on the event loop takes everything that is new per wake-up. One timer, armed only while somebody waits, looks at all
waiters: deadlines, clients that may have left, and a collect in case a ring was lost. Nothing is started per request: a timer or a
task for each would cost more than all the rest of this module.
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any

import msgspec

from cubbyhole.core.clock import NEVER_NS, now_ns
from cubbyhole.core.entries import Collected, Failure, Taken
from cubbyhole.core.errors import ChannelClosed, CubbyholeError
from cubbyhole.core.ids import request_ids
from cubbyhole.front.times import Readers
from cubbyhole.front.withdrawal import WITHDRAWN
from cubbyhole.scheduling.admission import AnswerRate, QueueFull, retry_after_s

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable, Iterator

    from cubbyhole.channels.base import FrontPort
    from cubbyhole.core.entries import RequestEntry
    from cubbyhole.core.kept import KeptRequest
    from cubbyhole.front.times import PartTimes

    Receive = Callable[[], Awaitable[Any]]

logger = logging.getLogger(__name__)

SWEEP_S = 0.05  # a deadline or a lost ring is noticed so late at most; 20 looks a second only while somebody waits
WATCH_AFTER_NS = (
    50_000_000  # most answers are out by then, and so never cost a task that watches the client
)

EXPIRED = Failure("expired", 504, "Request timed out")
GONE = Failure("cancelled", 499, "The client left", message="client left")
CLOSED = Failure(
    "channel_closed",
    503,
    "The server is shutting down or lost its channel. Try again.",
    {"Retry-After": "1"},
)
BROKEN = Failure("internal", 500)


class ExchangeStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """What one front's exchange did since it was opened."""

    waiting: int = 0
    submitted_total: int = 0
    answered_total: int = 0
    failed_total: int = 0
    expired_total: int = 0
    left_total: int = 0
    refused_total: int = 0
    wakeups_total: int = 0


class Waiter:
    """One request of this front that has no final answer yet.

    Attributes:
        id: The entry's.
        future: Resolved with the next `Collected`. A stream replaces it each time that it waits for news.
        deadline_ns: When it is answered 504; never, once a stream has begun.
        since_ns: When the request came.
        receive: The ASGI callable, on which a departure of the client is seen; None: nobody can leave.
        news: A stream got news while it was busy sending.
        left: Nobody reads the answer any more.
        name: Its X-Request-ID, where clients may take requests back.
        kept: What is kept of it for replay, where that is on.
    """

    __slots__ = (
        "deadline_ns",
        "final",
        "future",
        "id",
        "kept",
        "left",
        "name",
        "news",
        "receive",
        "since_ns",
        "watcher",
    )

    def __init__(
        self,
        request_id: int,
        future: asyncio.Future[Collected],
        deadline_ns: int,
        since_ns: int,
        receive: Receive | None,
    ) -> None:
        self.id = request_id
        self.future = future
        self.deadline_ns = deadline_ns
        self.since_ns = since_ns
        self.name = b""
        self.receive = receive
        self.watcher: asyncio.Task[None] | None = None
        self.final: Collected | None = None
        self.news = False
        self.left = False
        self.kept: KeptRequest | None = None


class Exchange:
    """The waiters of one front, between its event loop and its port."""

    def __init__(
        self,
        port: FrontPort,
        front: int,
        loop: asyncio.AbstractEventLoop,
        part_times: PartTimes | None = None,
        limit: int | None = None,
    ) -> None:
        self.ids: Iterator[int] = request_ids(front)
        self._port = port
        self._loop = loop
        self._waiters: dict[int, Waiter] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._submitted = self._answered = self._failed = self._expired = self._left = 0
        self._refused = self._wakeups = 0
        self.reserve = port.reserve
        # A channel that keeps a history is told when it was not the client who had enough.
        self._expire_entry: Callable[[int], bool] = getattr(port, "expire", port.cancel)
        self._part_times = part_times
        self._limit = limit if limit is not None else sys.maxsize
        self._readers = Readers()
        self._rate = AnswerRate()

    def open(self) -> None:
        """Begin to collect."""
        self._loop.add_reader(self._port.fileno(), self._collect)

    def close(self) -> None:
        """Answer whoever still waits with 503 and give the port back."""
        self._loop.remove_reader(self._port.fileno())
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._answer_all(CLOSED)
        self._port.close()

    def submit(self, entry: RequestEntry, receive: Receive | None = None) -> Waiter:
        """Put an entry on its way.

        Args:
            entry: With an id of `ids`.
            receive: ASGI `receive` of the client, to see it leave; None: not watched.

        Raises:
            ChannelFull: no room now: answer 503 at once.
            EntryTooLarge: never fits: 413.
        """
        request_id = entry.id
        waiter = Waiter(
            request_id, self._loop.create_future(), entry.deadline_ns, entry.received_ns, receive
        )
        self._waiters[request_id] = waiter  # first: the answer may come before `submit` returns
        if len(self._waiters) > self._limit:
            del self._waiters[request_id]
            raise self._refuse()
        try:
            self._port.submit(entry)
        except BaseException:
            del self._waiters[request_id]
            self._refused += 1
            raise
        self._submitted += 1
        if self._timer is None:
            self._timer = self._loop.call_later(SWEEP_S, self._sweep)
        return waiter

    def withdraw(self, name: bytes) -> bool:
        """Cancel the requests of that name; their clients are told so. False: there is none here."""
        found = [waiter for waiter in self._waiters.values() if name and waiter.name == name]
        for waiter in found:
            self._cancel(waiter.id)
            self._answer(waiter.id, WITHDRAWN)
        return bool(found)

    def begin_reading(self, task: asyncio.Task[Any], until_ns: int) -> None:
        """`task` reads a request's body, until then at most.

        Raises:
            QueueFull: there would be no room for it, so that it need not be read.
        """
        if len(self._waiters) >= self._limit:
            raise self._refuse()
        self._readers.add(task, until_ns)
        if self._timer is None:
            self._timer = self._loop.call_later(SWEEP_S, self._sweep)

    def end_reading(self, task: asyncio.Task[Any]) -> bool:
        """`task` reads no more. True: it was cancelled by us, because it took too long."""
        self._readers.remove(task)
        return self._readers.was_cut(task)

    def retry_after_s(self) -> int:
        """Return when a client that is refused now should come again, by the rate of answers."""
        rate = self._rate.per_s(self._answered, now_ns())
        return retry_after_s(len(self._waiters), rate)

    def leave(self, waiter: Waiter) -> None:
        """Nobody reads this answer any more: cancel the entry. Safe to repeat, and after the answer."""
        if self._waiters.pop(waiter.id, None) is None:
            return
        self._left += 1
        waiter.left = True
        self._cancel(waiter.id)
        if not waiter.future.done():
            waiter.future.set_result(Collected(waiter.id, GONE))

    def take(self, waiter: Waiter) -> Taken:
        """Take a stream's chunks. The first ones end its deadline: it bounds the wait for an answer, not its length."""
        waiter.deadline_ns = NEVER_NS
        waiter.news = False
        if waiter.final is not None:
            outcome = waiter.final.outcome
            return Taken([], end=outcome if outcome is not None else BROKEN)
        if waiter.left:
            return Taken([], end=GONE)
        taken = self._port.take_chunks(waiter.id)
        if taken.end is not None:
            self.finish(waiter)
            self._answered += 1
        return taken

    async def wait_news(self, waiter: Waiter) -> None:
        """Wait until a stream has something new, or its client left."""
        if waiter.news or waiter.left or waiter.final is not None:
            return
        waiter.future = self._loop.create_future()
        await waiter.future

    def finish(self, waiter: Waiter) -> None:
        """Forget a waiter whose answer is complete; nothing is cancelled."""
        self._waiters.pop(waiter.id, None)
        if waiter.watcher is not None:
            waiter.watcher.cancel()
            waiter.watcher = None  # its traceback holds the waiter, and that the answer's block

    def statistics(self) -> ExchangeStatistics:
        """Count."""
        return ExchangeStatistics(
            waiting=len(self._waiters),
            submitted_total=self._submitted,
            answered_total=self._answered,
            failed_total=self._failed,
            expired_total=self._expired,
            left_total=self._left,
            refused_total=self._refused,
            wakeups_total=self._wakeups,
        )

    def _refuse(self) -> QueueFull:
        self._refused += 1
        return QueueFull(
            f"{len(self._waiters)} requests are under way in this front, as many as max_queue allows. Add workers, or raise it."
        )

    def _collect(self) -> None:
        self._wakeups += 1
        try:
            news = self._port.collect()
        except ChannelClosed:
            self._loop.remove_reader(self._port.fileno())
            self._answer_all(CLOSED)
            return
        except Exception:
            # The entries stay in the channel: whoever waits still has a deadline, and the next ring tries again.
            logger.exception("collect failed: waiting=%d", len(self._waiters))
            return
        for collected in news:
            try:
                self._deliver(collected)
            except Exception:  # noqa: PERF203  (one bad entry is answered, the pump goes on; since 3.11 a try is free)
                logger.exception("entry not delivered: id=%d", collected.id)
                self._answer(collected.id, BROKEN)

    def _deliver(self, collected: Collected) -> None:
        outcome = collected.outcome
        if outcome is None:
            waiter = self._waiters.get(collected.id)
            if waiter is None:  # its client left: let the writer go on until it sees that
                self._port.take_chunks(collected.id)
            elif waiter.future.done():
                waiter.news = True
            else:
                waiter.future.set_result(collected)
            return
        waiter = self._waiters.pop(collected.id, None)
        if waiter is None:
            return
        self._answered += 1
        if type(outcome) is Failure:
            self._failed += 1
        if waiter.watcher is not None:
            waiter.watcher.cancel()
            waiter.watcher = None  # its traceback holds the waiter, and that the answer's block
        waiter.final = collected
        if not waiter.future.done():
            waiter.future.set_result(collected)

    def _sweep(self) -> None:
        self._collect()
        time_ns = now_ns()
        self._rate.note(self._answered, time_ns)
        self._readers.cut(time_ns)
        watch_before_ns = time_ns - WATCH_AFTER_NS
        for waiter in tuple(self._waiters.values()):
            if waiter.deadline_ns <= time_ns:
                self._expired += 1
                self._cancel(waiter.id, self._expire_entry)
                self._answer(waiter.id, EXPIRED)
            elif (
                waiter.watcher is None
                and waiter.since_ns < watch_before_ns
                and waiter.receive is not None
            ):
                waiter.watcher = self._loop.create_task(self._watch(waiter, waiter.receive))
        if self._part_times is not None:
            for request_id, failure in self._part_times.overdue(self._waiters.values(), time_ns):
                self._expired += 1
                self._cancel(request_id, self._expire_entry)
                self._answer(request_id, failure)
        if self._waiters or self._readers:
            self._timer = self._loop.call_later(SWEEP_S, self._sweep)
        else:
            self._timer = None
            self._rate.pause()

    async def _watch(self, waiter: Waiter, receive: Receive) -> None:
        try:
            while (await receive())["type"] != "http.disconnect":
                pass
        except Exception:
            # A transport or middleware that cannot be asked twice: this client is not watched, the deadline still holds.
            logger.debug("client cannot be watched: id=%d", waiter.id, exc_info=True)
            return
        self.leave(waiter)

    def _cancel(self, request_id: int, cancel: Callable[[int], bool] | None = None) -> None:
        try:
            (cancel or self._port.cancel)(request_id)
        except CubbyholeError:
            logger.debug("cancel failed: id=%d", request_id, exc_info=True)

    def _answer(self, request_id: int, failure: Failure) -> None:
        waiter = self._waiters.pop(request_id, None)
        if waiter is None:
            return
        self._failed += 1
        waiter.final = Collected(request_id, failure)
        if waiter.watcher is not None:
            waiter.watcher.cancel()
            waiter.watcher = None  # its traceback holds the waiter, and that the answer's block
        if not waiter.future.done():
            waiter.future.set_result(waiter.final)

    def _answer_all(self, failure: Failure) -> None:
        for request_id in tuple(self._waiters):
            self._answer(request_id, failure)
