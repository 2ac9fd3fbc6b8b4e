# SPDX-License-Identifier: Apache-2.0
"""A lane with spans, for servers with `otel` on; others have the plain one and pay nothing.

A span begins where the request's headers are read, and the worker's meta gets our `traceparent` instead of the client's. A request with
one takes the long way through the lane, as each with a meta does. Those without, which are most on a busy server, pass nothing of this.

Flow:  lanes.py -> Lane.answer -> meta.py -> **TracedLane._trace** -> the worker's `traceparent`
       -> **_reply | _turn_away | _abandon**, where the span ends
Owns:  the server span of each request, in its scope, while it is answered.
See:   observe/traces.py
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from opentelemetry.trace import SpanKind, Status, StatusCode

from cubbyhole.core.clock import now_ns
from cubbyhole.front.exchange import GONE
from cubbyhole.front.intake import ClientLeft, header
from cubbyhole.front.lane import Lane, Refused
from cubbyhole.observe.traces import carrier_of, note_error, note_failure, wall_ns

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from opentelemetry.trace import Span

    from cubbyhole.core.entries import Collected, Failure, RequestMeta
    from cubbyhole.front.desk import Desk
    from cubbyhole.front.exchange import Exchange, Waiter
    from cubbyhole.front.reply import Headers
    from cubbyhole.observe.traces import Tracer

_CONTEXT = (b"traceparent", b"tracestate")
_VISIT = "cubbyhole.visit"  # in a scope


class Visit:
    """What one request's span must know at its end."""

    __slots__ = ("code", "complete", "failure", "span", "status", "times_ns", "waiter")

    def __init__(self, span: Span) -> None:
        self.span = span
        self.status = 0
        self.complete = False
        self.code = ""  # why it was turned away
        self.failure: Failure | None = None
        self.waiter: Waiter | None = None
        self.times_ns = (0, 0, 0, 0, 0)

    def watching(self, send: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """Return a `send` that looks at its messages."""

        def send_on(message: Any) -> Any:
            if message["type"] == "http.response.start":
                self.status = message["status"]
            elif not message.get("more_body", False):
                self.complete = True
            return send(message)

        return send_on


class TracedLane(Lane):
    """A lane that makes a server span and a queue span for each request that is to have them."""

    def __init__(
        self, desk: Desk, endpoint: int, *, guarded: bool, compressed: bool, inside_fastapi: bool
    ) -> None:
        options: Any = {"guarded": guarded, "compressed": compressed}
        super().__init__(desk, endpoint, inside_fastapi=inside_fastapi, **options)
        self._path = desk.settings.endpoints[endpoint].path
        self._meta_reader.trace, self._meta_reader.trace_from_ns = self._trace, 0

    def _trace(self, scope: Any, received_ns: int, meta: RequestMeta) -> RequestMeta:
        """Begin a request's span, if it is to have one; return the meta for its worker, which is in that span."""
        tracer = self._desk.tracer
        if tracer is None:
            return meta
        visit = self._begin(tracer, scope, received_ns, meta.traceparent, meta.tracestate)
        self._meta_reader.trace_from_ns = tracer.admission.spent_until_ns
        if visit is None:
            return meta
        carrier = {"traceparent": "", "tracestate": "", **carrier_of(visit.span)}
        return msgspec.structs.replace(meta, **carrier)

    def _begin(
        self, tracer: Tracer, scope: Any, received_ns: int, traceparent: str, tracestate: str
    ) -> Visit | None:
        if not tracer.admission.admits(traceparent):
            return None
        carrier = {"traceparent": traceparent, "tracestate": tracestate} if traceparent else {}
        attributes = self._attributes(scope)
        exchange = self._desk.exchange
        submitted = 0 if exchange is None else exchange.statistics().submitted_total
        left_out = tracer.admission.left_out(submitted)
        if left_out:
            attributes["cubbyhole.untraced"] = left_out
        name = f"POST {self._path}"
        visit = Visit(tracer.start(name, SpanKind.SERVER, carrier, attributes, received_ns))
        scope[_VISIT] = visit
        return visit

    def _attributes(self, scope: Any) -> dict[str, Any]:
        client = scope.get("client")
        attributes = {
            "http.request.method": scope["method"],
            "url.path": scope["path"],
            "url.scheme": scope.get("scheme", "http"),
            "http.route": self._path,
            "cubbyhole.endpoint": self._path,
        }
        return attributes | ({"client.address": client[0]} if client else {})

    def _reply(
        self, scope: Any, send: Any, exchange: Exchange, waiter: Waiter, collected: Collected
    ) -> Coroutine[Any, Any, None]:
        visit = scope.get(_VISIT)
        if visit is None:
            return super()._reply(scope, send, exchange, waiter, collected)
        visit.waiter = waiter
        visit.times_ns = collected.times_ns
        if not collected.times_ns[1]:  # a stream's first news, or an answer of the front's own
            visit.times_ns = self._times(waiter.id)
        send = visit.watching(send)
        answering = super()._reply(scope, send, exchange, waiter, collected)
        return self._ended(visit, answering, scope)

    def _turn_away(
        self, scope: Any, receive: Any, send: Any, error: Exception, received_ns: int
    ) -> Coroutine[Any, Any, None]:
        visit, tracer = scope.get(_VISIT), self._desk.tracer
        if visit is None and tracer is not None:
            context = (
                (header(scope["headers"], name) or b"").decode("latin-1") for name in _CONTEXT
            )
            visit = self._begin(tracer, scope, received_ns, *context)
        if visit is None:
            return super()._turn_away(scope, receive, send, error, received_ns)
        refused: Any = error.failure if isinstance(error, Refused) else error
        visit.code = "cancelled" if isinstance(error, ClientLeft) else refused.code
        send = visit.watching(send)
        answering = super()._turn_away(scope, receive, send, error, received_ns)
        return self._ended(visit, answering, scope)

    def _abandon(self, scope: Any, exchange: Exchange, waiter: Waiter) -> None:
        visit = scope.pop(_VISIT, None)
        if visit is not None:
            visit.waiter, visit.times_ns = waiter, self._times(waiter.id)
        super()._abandon(scope, exchange, waiter)
        if visit is not None:
            self._end(visit)

    async def _fail_entry(
        self,
        scope: Any,
        send: Any,
        waiter: Waiter,
        collected: Any,
        failure: Failure,
        extra: Headers,
    ) -> None:
        visit = scope.get(_VISIT)
        if visit is not None:
            visit.failure = failure
        await super()._fail_entry(scope, send, waiter, collected, failure, extra)

    async def _ended(self, visit: Visit, answering: Coroutine[Any, Any, None], scope: Any) -> None:
        try:
            await answering
        except BaseException as error:
            status = getattr(error, "status_code", None)
            if isinstance(status, int):  # an HTTPException, which FastAPI answers
                visit.status, visit.complete = status, True
            else:
                note_error(visit.span, error)
            raise
        finally:
            del scope[_VISIT]
            self._end(visit)

    def _end(self, visit: Visit) -> None:
        span, waiter = visit.span, visit.waiter
        if not span.is_recording():
            span.end()
            return
        if visit.status:
            span.set_attribute("http.response.status_code", visit.status)
        if waiter is not None:
            span.set_attribute("cubbyhole.request.id", str(waiter.id))
            self._note_queue(visit)
        if waiter is not None and (waiter.left or _is_gone(waiter)):
            span.set_attribute("error.type", "cancelled")
        elif visit.failure is not None:
            note_failure(span, visit.failure, traceback=False)  # the worker's has it
        elif visit.code:
            span.set_attribute("error.type", visit.code)
            if visit.status >= 500:
                span.set_status(Status(StatusCode.ERROR, visit.code))
        elif not visit.complete and visit.status:
            span.set_attribute("error.type", "stream_broken")
            span.set_status(Status(StatusCode.ERROR, "the stream ended by a failure"))
        elif visit.status >= 500:
            span.set_status(Status(StatusCode.ERROR))
        span.end()

    def _times(self, request_id: int) -> tuple[int, int, int, int, int]:
        """Look up an entry's times, where the channel shows its entries."""
        place = self._desk.place
        find = getattr(place.channel, "find", None) if place is not None else None
        entry = find(request_id) if find is not None else None
        if entry is None:
            return (0, 0, 0, 0, 0)
        return (entry.received_ns, entry.ready_ns, entry.claimed_ns, 0, entry.done_ns)

    def _note_queue(self, visit: Visit) -> None:
        """A span for the time in the queue, which is over: from the entry's own times."""
        _, ready_ns, claimed_ns, _, done_ns = visit.times_ns
        tracer = self._desk.tracer
        if ready_ns and tracer is not None:
            span = tracer.child(visit.span, "queue", start_ns=ready_ns)
            span.set_attribute("cubbyhole.endpoint", self._path)
            span.set_attribute("cubbyhole.claimed", bool(claimed_ns))
            span.end(wall_ns(claimed_ns or done_ns or now_ns()))


def _is_gone(waiter: Waiter) -> bool:
    return waiter.final is not None and waiter.final.outcome is GONE


def traced(base: type[Lane]) -> type[Lane]:
    """Return a kind of lane with spans."""
    return TracedLane if base is Lane else type(f"Traced{base.__name__}", (TracedLane, base), {})
