# SPDX-License-Identifier: Apache-2.0
"""A lane with spans, for servers with `otel` on; others have the plain one and pay nothing.

Flow:  lanes.py -> **TracedLane.answer** -> Lane.answer, with `traceparent` of our span in the request's headers -> worker
Owns:  the server span of each request, while it is answered.
See:   observe/traces.py
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from opentelemetry.trace import SpanKind, Status, StatusCode

from cubbyhole.core.clock import now_ns
from cubbyhole.front.exchange import GONE
from cubbyhole.front.lane import Lane
from cubbyhole.observe.traces import Tracer, carrier_of, note_error, note_failure, wall_ns

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from opentelemetry.trace import Span

    from cubbyhole.core.entries import Buffer, Collected, Failure
    from cubbyhole.front.desk import Desk
    from cubbyhole.front.exchange import Exchange, Waiter
    from cubbyhole.front.reply import Headers

_CONTEXT = {b"traceparent": "traceparent", b"tracestate": "tracestate"}


class Visit:
    """What one request's span must know at its end."""

    __slots__ = ("complete", "failure", "span", "status", "times_ns", "waiter")

    def __init__(self, span: Span) -> None:
        self.span = span
        self.status = 0
        self.complete = False
        self.failure: Failure | None = None
        self.waiter: Waiter | None = None
        self.times_ns = (0, 0, 0, 0, 0)


_visit: ContextVar[Visit | None] = ContextVar("cubbyhole_visit", default=None)


class TracedLane(Lane):
    """A lane that makes a server span and a queue span for each request that is to have them.

    Attributes:
        base: The kind of lane that it adds spans to.
        untraced: A lane of that kind, for the others.
    """

    base: type[Lane] = Lane

    def __init__(
        self, desk: Desk, endpoint: int, *, guarded: bool, compressed: bool, inside_fastapi: bool
    ) -> None:
        options: Any = {"guarded": guarded, "compressed": compressed}
        options["inside_fastapi"] = inside_fastapi
        super().__init__(desk, endpoint, **options)
        self._plain = False  # every answer passes `_reply`
        self._path = desk.settings.endpoints[endpoint].path
        self.untraced = self.base(desk, endpoint, **options)

    def answer(self, scope: Any, receive: Any, send: Any) -> Coroutine[Any, Any, None]:
        """Serve one request (ASGI). No coroutine of its own for those without spans, which are most on a busy server."""
        tracer: Tracer | None = self._desk.tracer
        if tracer is None:
            return self.untraced.answer(scope, receive, send)
        headers, admission = dict(scope["headers"]), tracer.admission
        traceparent = headers.get(b"traceparent")
        if traceparent is None and now_ns() < admission.spent_until_ns:
            admission.left_out += 1
            return self.untraced.answer(scope, receive, send)
        if not admission.admits((traceparent or b"").decode("latin-1")):
            return self.untraced.answer(scope, receive, send)
        carrier = {
            _CONTEXT[name]: value.decode("latin-1")
            for name, value in headers.items()
            if name in _CONTEXT
        }
        return self._answer_traced(scope, receive, send, tracer, carrier)

    async def _answer_traced(
        self, scope: Any, receive: Any, send: Any, tracer: Tracer, carrier: dict[str, str]
    ) -> None:
        attributes = self._attributes(scope)
        if tracer.admission.left_out:
            attributes["cubbyhole.untraced"] = tracer.admission.left_out
            tracer.admission.left_out = 0
        span = tracer.start(f"POST {self._path}", SpanKind.SERVER, carrier, attributes, now_ns())
        visit = Visit(span)
        headers = [pair for pair in scope["headers"] if pair[0] not in _CONTEXT]
        headers += [(name.encode(), value.encode()) for name, value in carrier_of(span).items()]

        async def send_on(message: Any) -> None:
            if message["type"] == "http.response.start":
                visit.status = message["status"]
            elif not message.get("more_body", False):
                visit.complete = True
            await send(message)

        token = _visit.set(visit)
        try:
            await super().answer({**scope, "headers": headers}, receive, send_on)
        except BaseException as error:
            status = getattr(error, "status_code", None)
            if isinstance(status, int):  # an HTTPException, which FastAPI answers
                visit.status, visit.complete = status, True
            else:
                note_error(span, error)
            raise
        finally:
            _visit.reset(token)
            self._end(tracer, visit)

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

    def _submit(
        self,
        exchange: Exchange,
        scope: Any,
        body: Buffer,
        meta: bytes,
        wishes: dict[bytes, bytes] | None,
        received_ns: int,
        receive: Any,
    ) -> Waiter:
        waiter = super()._submit(exchange, scope, body, meta, wishes, received_ns, receive)
        visit = _visit.get()
        if visit is not None:
            visit.waiter = waiter
        return waiter

    async def _reply(
        self, scope: Any, send: Any, exchange: Exchange, waiter: Waiter, collected: Collected
    ) -> None:
        visit = _visit.get()
        if visit is not None:
            visit.times_ns = collected.times_ns
            if not collected.times_ns[1]:  # a stream's first news, or an answer of the front's own
                visit.times_ns = self._times(waiter.id)
        await super()._reply(scope, send, exchange, waiter, collected)

    async def _fail(self, send: Any, failure: Failure, extra: Headers) -> None:
        visit = _visit.get()
        if visit is not None:
            visit.failure = failure
        await super()._fail(send, failure, extra)

    def _end(self, tracer: Tracer, visit: Visit) -> None:
        span, waiter = visit.span, visit.waiter
        if not span.is_recording():
            span.end()
            return
        if visit.status:
            span.set_attribute("http.response.status_code", visit.status)
        if waiter is not None:
            span.set_attribute("cubbyhole.request.id", str(waiter.id))
            self._note_queue(tracer, visit)
        if visit.failure is not None:
            note_failure(span, visit.failure, traceback=False)  # the worker's has it
        elif waiter is not None and (waiter.left or _is_gone(waiter)):
            span.set_attribute("error.type", "cancelled")
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

    def _note_queue(self, tracer: Tracer, visit: Visit) -> None:
        """A span for the time in the queue, which is over: from the entry's own times."""
        _, ready_ns, claimed_ns, _, done_ns = visit.times_ns
        if ready_ns:
            span = tracer.child(visit.span, "queue", start_ns=ready_ns)
            span.set_attribute("cubbyhole.endpoint", self._path)
            span.set_attribute("cubbyhole.claimed", bool(claimed_ns))
            span.end(wall_ns(claimed_ns or done_ns or now_ns()))


def _is_gone(waiter: Waiter) -> bool:
    return waiter.final is not None and waiter.final.outcome is GONE


def traced(base: type[Lane]) -> type[Lane]:
    """Return a kind of lane with spans."""
    if base is Lane:
        return TracedLane
    return type(f"Traced{base.__name__}", (TracedLane, base), {"base": base})
