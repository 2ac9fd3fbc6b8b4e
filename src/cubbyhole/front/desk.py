# SPDX-License-Identifier: Apache-2.0
"""What the lanes and routes of one server share: who they work for, and, while a front runs, its exchange and roster.

Flow:  LitServer() -> Desk (no channel yet) -> `place` is set (run: in each front; tests: in process) -> lifespan -> open
Owns:  the exchange between `open` and `close`.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import time
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cubbyhole.api.callbacks import call_contained
from cubbyhole.core.clock import now_ns
from cubbyhole.core.entries import CANCELLED_BY_OPERATOR
from cubbyhole.core.failures import FailureRecord, keep_failure
from cubbyhole.core.rejections import reason_number
from cubbyhole.core.roster import ProcessState
from cubbyhole.front.exchange import Exchange
from cubbyhole.front.times import PartTimes
from cubbyhole.front.turnstile import Turnstile

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from contextlib import AbstractAsyncContextManager

    from cubbyhole.api.callbacks import CallbackRunner
    from cubbyhole.channels.base import Channel
    from cubbyhole.core.entries import Collected, Failure
    from cubbyhole.core.kept import KeptRequests
    from cubbyhole.core.roster import Roster
    from cubbyhole.core.settings import ServerSettings
    from cubbyhole.front.handover import Counter
    from cubbyhole.front.withdrawal import Mailboxes
    from cubbyhole.observe.traces import Tracer

logger = logging.getLogger(__name__)

HEARTBEAT_S = 0.5  # half of what the supervisor allows between two beats of a living front


@dataclass(frozen=True)
class Place:
    """Where a front stands: its number, and what it shares with the other processes."""

    index: int
    channel: Channel
    roster: Roster


class Desk:
    """The one object that lanes, routes and the lifespan of a server's app have in common.

    Attributes:
        settings: The server's.
        server: The `LitServer`, which callbacks get.
        lit_apis: Its APIs, in the order of `settings.endpoints`.
        request_hooks, response_hooks: The callbacks that want to hear of requests and answers; mostly none.
        read_api_key: Gives the key that `X-API-Key` must equal, or None.
        place: Set before the app's lifespan starts.
        exchange: None unless the front is open.
        active: Open requests of this front, kept only with `track_requests`.
        queue_share: How many requests may be under way in this front; None: no limit of its own.
        turnstile: Counts by client and bytes; turns only if an option asks for it.
        fast_paths: Model paths that this front serves in the fast lane, for `/info`.
        shut_down: Asks the supervisor to end the server; None before start-up is done.
        kept: Where requests are kept for replay, made before the fronts are forked; else None.
        tracer: Makes spans, of an open front with `otel`; else None.
        lifespans: More of them, which start after ours and end before (MCP's session manager).
    """

    def __init__(
        self,
        settings: ServerSettings,
        server: Any,
        lit_apis: Sequence[Any],
        callbacks: CallbackRunner,
        read_api_key: Callable[[], str | None],
    ) -> None:
        self.settings = settings
        self.server = server
        self.lit_apis = lit_apis
        self._callbacks = callbacks
        self.request_hooks = callbacks.hooks("on_request")
        self.response_hooks = callbacks.hooks("on_response")
        self.read_api_key = read_api_key
        self.place: Place | None = None
        self.exchange: Exchange | None = None
        self.active = 0
        self.tracer: Tracer | None = None
        self.kept: KeptRequests | None = None
        self.lifespans: list[Callable[[Any], AbstractAsyncContextManager[Any]]] = []
        self.fast_paths: frozenset[str] = frozenset()
        self.shut_down: Callable[[], None] | None = None
        self.mailboxes: Mailboxes | None = None  # of several fronts, with `cancel_by_id`
        self.counter: Counter | None = None  # for clients that hand memory over
        self.queue_share: int | None = None
        self.turnstile = Turnstile(settings)
        self._heart: asyncio.TimerHandle | None = None

    def open(self, loop: asyncio.AbstractEventLoop) -> None:
        """Open this front's port on `loop` and say that the front is ready. Without a place: nothing."""
        place = self.place
        if place is None or self.exchange is not None:
            return
        settings, limit, parts = self.settings, self.settings.max_queue, None
        if limit is not None:
            limit = self.queue_share = -(
                -limit // place.roster.fronts
            )  # each front admits its share
        if not math.isinf(min(settings.queue_timeout_s, settings.execution_timeout_s)):
            parts = PartTimes(
                settings.queue_timeout_s, settings.execution_timeout_s, place.channel.snapshot
            )
        self.turnstile = Turnstile(settings)
        self.turnstile.open(place.roster.fronts)
        if settings.otel is not None:
            from cubbyhole.observe.traces import Tracer

            self.tracer = Tracer(
                settings.otel,
                f"front {place.index}",
                shared=False,
                traces_per_s=settings.otel_traces_per_s,
            )
        port = place.channel.front(place.index)
        self.exchange = Exchange(port, place.index, loop, parts, limit)
        self.exchange.open()
        if self.mailboxes is not None:
            self.mailboxes.listen(place.index, loop, self.exchange.withdraw)
        if self.counter is not None:
            self.counter.open(self, loop)
        place.roster.set_pid(place.index, os.getpid())
        place.roster.set_state(place.index, ProcessState.READY)
        self._beat(loop, place)

    def close(self) -> None:
        """Give the port back."""
        if self._heart is not None:
            self._heart.cancel()
            self._heart = None
        if self.counter is not None and self.exchange is not None:
            self.counter.close(asyncio.get_running_loop())
        if self.exchange is not None:
            self.exchange.close()
            self.exchange = None
            if self.place is not None:
                self.place.roster.set_state(self.place.index, ProcessState.FINISHED)
        if self.tracer is not None:
            self.tracer.close()
            self.tracer = None

    def tell_other_fronts(self, name: bytes) -> None:
        """Have the other fronts take a request back, if one of them has it."""
        if self.mailboxes is not None and self.place is not None:
            self.mailboxes.tell_others(self.place.index, name)

    def count(self, step: int) -> None:
        """Count a request that opens (1) or ends (-1)."""
        self.active += step
        if self.place is not None:
            self.place.roster.set_active(self.place.index, self.active)

    def active_requests(self) -> int | None:
        """Return the open requests of all fronts; None unless they are tracked."""
        if not self.settings.track_requests:
            return None
        return self.active if self.place is None else self.place.roster.active_total()

    def reject(self, code: str) -> None:
        """Count a request that is not taken, by the code of its error or failure."""
        if self.place is not None:
            self.place.roster.count_rejection(self.place.index, reason_number(code))

    def announce_request(self) -> None:
        """Tell the callbacks that a request has come."""
        for hook in self.request_hooks:
            call_contained(hook, active_requests=self.active_requests(), litserver=self.server)

    def announce_response(self) -> None:
        """Tell the callbacks that an answer is there."""
        for hook in self.response_hooks:
            call_contained(hook, litserver=self.server)

    def keep_failure(
        self,
        failure: Failure,
        collected: Collected,
        *,
        endpoint: int,
        request_id: bytes,
        received_ns: int,
    ) -> None:
        """Keep the record of an answer of 500 or above, or an operator's, for whoever asks why: `cubbyhole inspect ID`."""
        place = self.place
        if place is None or (failure.status < 500 and failure.code != CANCELLED_BY_OPERATOR.code):
            return
        worker, attempt, times_ns = collected.worker, collected.attempt, collected.times_ns
        if worker < 0 and failure.code == "expired":  # the front's own deadline: who has it now?
            find = getattr(place.channel, "find", None)
            entry = find(collected.id) if find is not None else None
            if entry is not None:
                worker, attempt = entry.owner, entry.attempt
                times_ns = (entry.received_ns, entry.ready_ns, entry.claimed_ns, 0, 0)
        logger.debug(
            "request failed: id=%d request_id=%s path=%s code=%s status=%d worker=%d",
            collected.id,
            request_id.decode(),
            self.settings.endpoints[endpoint].path,
            failure.code,
            failure.status,
            worker,
        )
        with place.roster.failures(place.index) as ring:
            keep_failure(
                ring,
                FailureRecord(
                    id=collected.id,
                    request_id=request_id.decode(),
                    endpoint=endpoint,
                    code=failure.code,
                    status=failure.status,
                    message=failure.message or str(failure.detail),
                    traceback_text=failure.traceback_text,
                    worker=worker,
                    attempt=attempt,
                    times_ns=times_ns if times_ns[0] else (received_ns, 0, 0, 0, 0),
                    failed_ns=now_ns(),
                    failed_at_s=time.time(),
                ),
            )

    def worker_states(self) -> dict[str, str]:
        """Return LitServe's word for each worker's state, by its API's path and its number there."""
        if self.place is None:
            return {}
        states = {}
        for index in range(self.settings.workers_total):
            endpoint, number, _ = self.settings.worker_place(index)
            state = self.place.roster.state(self.place.roster.worker_cell(index))
            path = self.settings.endpoints[endpoint].path.strip("/")
            states[f"{path}_{number}"] = state.name.lower()
        return states

    @asynccontextmanager
    async def lifespan(self, app: Any) -> AsyncIterator[None]:
        """Be open while the app lives."""
        self.open(asyncio.get_running_loop())
        try:
            async with AsyncExitStack() as stack:
                for more in self.lifespans:
                    await stack.enter_async_context(more(app))
                yield
        finally:
            self._callbacks.trigger_event("on_server_end", litserver=self.server)
            self.close()

    def note_completeness(self) -> None:
        """Note for ever that all workers are ready, if they are: what the startup probe asks."""
        if self.place is not None and self.place.roster.workers_ready():
            self.place.roster.note_complete()

    def _beat(self, loop: asyncio.AbstractEventLoop, place: Place) -> None:
        place.roster.beat(place.index, now_ns())
        self.note_completeness()
        self._heart = loop.call_later(HEARTBEAT_S, self._beat, loop, place)
