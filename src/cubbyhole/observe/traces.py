# SPDX-License-Identifier: Apache-2.0
"""OpenTelemetry spans of one process, and their way out. No web stack; OpenTelemetry is imported only by who opens a `Tracer`.

    front    POST /predict            server span; its parent is the client's, from `traceparent`
                 queue                from the entry's times: ready until claimed
    worker       worker               consumer span: claimed until published; one for each attempt
                     decode, predict, encode
                     batch            one `predict` of several requests: links to the worker spans of all of them

Flow:  front/tracing.py, worker/tracing.py -> **Tracer** -> a bounded queue -> a thread -> OTLP over HTTP
Owns:  the process's provider, unless user code has set one: then spans go where that sends them.
See:   docs/guide/tracing.md

A collector that is slow, hangs or is down costs nothing but its spans: they wait in a bounded queue (OTEL_BSP_MAX_QUEUE_SIZE, 2048),
are dropped when it is full, and what was lost is counted and logged. At the end of a process the queue has `FLUSH_S` to be sent.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from typing import TYPE_CHECKING, Any

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import (
    Link,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from cubbyhole.core.clock import now_ns
from cubbyhole.observe.sampling import Admission, read_traceparent
from cubbyhole.observe.spans import SpanMaker

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.trace import Span

    from cubbyhole.core.entries import Failure

logger = logging.getLogger(__name__)

FLUSH_S = (
    2.0  # for what is queued when a process ends; a collector that hangs must not hold up a drain
)
REPORT_S = 60.0  # between two lines about lost spans
NAME = "cubbyhole"

_propagator = TraceContextTextMapPropagator()


class CountingExporter(SpanExporter):
    """An exporter that counts what it could not deliver, and says so now and then.

    Attributes:
        delivered, lost: Spans.
    """

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._reported_s = 0.0
        self.delivered = 0
        self.lost = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send spans; False results and exceptions (a refused connection) are losses."""
        try:
            result = self._exporter.export(spans)
        except Exception as error:  # noqa: BLE001  (whatever a transport raises: its spans are lost, nothing else)
            self._lose(len(spans), f"{type(error).__name__}: {error}")
            return SpanExportResult.FAILURE
        if result is SpanExportResult.SUCCESS:
            self.delivered += len(spans)
        else:
            self._lose(len(spans), "refused or timed out")
        return result

    def _lose(self, count: int, reason: str) -> None:
        self.lost += count
        if time.monotonic() - self._reported_s > REPORT_S:
            self._reported_s = time.monotonic()
            logger.warning("spans lost: count=%d total=%d reason=%r", count, self.lost, reason)

    def shutdown(self) -> None:
        """Let go of the connection."""
        self._exporter.shutdown()


class CountingProcessor(BatchSpanProcessor):
    """The SDK's batching processor, with a count of what went in: the rest is what its queue had no room for."""

    def __init__(self, exporter: CountingExporter) -> None:
        super().__init__(exporter)
        self.counting = exporter
        self.ended = 0

    def on_end(self, span: ReadableSpan) -> None:
        """Queue a span; never waits."""
        if span.context is not None and span.context.trace_flags.sampled:
            self.ended += 1
        super().on_end(span)

    def finish(self) -> int:
        """Send what is queued, within `FLUSH_S`, and return how many spans were never delivered."""
        bounded(lambda: self._batch_processor.shutdown(timeout_millis=int(FLUSH_S * 1000)))
        return self.ended - self.counting.delivered


def bounded(flush: Callable[[], object]) -> None:
    """Flush for `FLUSH_S` and a little, not longer: a system call in it may know no time limit."""
    thread = threading.Thread(target=flush, name="otel-flush", daemon=True)
    thread.start()
    thread.join(FLUSH_S + 0.5)


class Tracer:
    """Makes spans, in one process.

    Args:
        endpoint: A collector's base URL; empty: what OTEL_EXPORTER_OTLP_* say.
        process: Which one this is, e.g. "front 0".
        shared: Be the process's provider, so that spans of user code go the same way. Not in fronts: FastAPI makes spans of its own
            for every request once there is a provider.
        traces_per_s: As in `ServerSettings`. It does not count where user code has set a provider, or OTEL_TRACES_SAMPLER a sampler.

    Attributes:
        admission: Which requests are to have spans at all.
    """

    def __init__(
        self, endpoint: str, process: str, *, shared: bool, traces_per_s: float | None = None
    ) -> None:
        self._processor: CountingProcessor | None = None
        provider = trace.get_tracer_provider()
        if not isinstance(provider, TracerProvider):  # nobody has set one
            provider = TracerProvider(resource=resource_of(process), shutdown_on_exit=False)
            url = f"{endpoint.rstrip('/')}/v1/traces" if endpoint else None
            self._processor = CountingProcessor(CountingExporter(OTLPSpanExporter(endpoint=url)))
            provider.add_span_processor(self._processor)
            if shared:
                trace.set_tracer_provider(provider)
        by_us = self._processor is not None and not os.environ.get("OTEL_TRACES_SAMPLER")
        self.admission = Admission(traces_per_s if by_us else None)
        self._provider = provider
        self._tracer = provider.get_tracer(NAME)
        self._maker = SpanMaker(provider, self._tracer, NAME) if by_us else None

    def start(
        self,
        name: str,
        kind: SpanKind,
        carrier: Mapping[str, str],
        attributes: Mapping[str, Any],
        start_ns: int,
    ) -> Span:
        """Begin a span whose parent is in another process.

        Args:
            name: Of the span.
            kind: Server in a front, consumer in a worker.
            carrier: `traceparent` and `tracestate`; without them it is the first of its trace.
            attributes: Its first ones.
            start_ns: Monotonic.
        """
        parent = trace.get_current_span().get_span_context()  # user code in a front may have one
        if self._maker is not None:
            above = parent if parent.is_valid else remote_parent(carrier)
            return self._maker.start(name, above, kind, attributes, start_time=wall_ns(start_ns))
        context = _propagator.extract(carrier) if carrier and not parent.is_valid else None
        return self._tracer.start_span(
            name,
            context,
            kind,
            attributes,
            start_time=wall_ns(start_ns),
        )

    def child(
        self, parent: Span, name: str, links: Sequence[Span] = (), start_ns: int | None = None
    ) -> Span:
        """Begin a span below another of this process, with links to others."""
        to = [Link(span.get_span_context()) for span in links]
        start_time = None if start_ns is None else wall_ns(start_ns)
        if self._maker is not None:
            above = parent.get_span_context()
            return self._maker.start(name, above, links=to, start_time=start_time)
        return self._tracer.start_span(
            name, trace.set_span_in_context(parent), links=to, start_time=start_time
        )

    def close(self) -> None:
        """Send what is queued, for a bounded time."""
        if self._processor is None:
            bounded(self._provider.force_flush)
            return
        lost = self._processor.finish()
        if lost:
            logger.warning("spans not delivered: count=%d of=%d", lost, self._processor.ended)


class _HashedOnce(Resource):
    """A resource whose hash is made once: exporters ask for it with each span, and it is that of all of it as JSON."""

    _hash: int | None = None

    def __hash__(self) -> int:
        if self._hash is None:
            self._hash = super().__hash__()
        return self._hash


def resource_of(process: str) -> Resource:
    """Return what all spans of a process say of it."""
    attributes: dict[str, str | int] = {"process.pid": os.getpid(), "cubbyhole.process": process}
    named = bool(os.environ.get("OTEL_SERVICE_NAME"))
    if not named and "service.name=" not in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", ""):
        attributes["service.name"] = NAME
    found = Resource.create(attributes)
    return _HashedOnce(found.attributes, found.schema_url)


def wall_ns(monotonic_ns: int) -> int:
    """Return the time of day of a moment of the monotonic clock."""
    return time.time_ns() - now_ns() + monotonic_ns


def remote_parent(carrier: Mapping[str, str]) -> SpanContext | None:
    """Return the span that `traceparent` and `tracestate` name; None: they name none."""
    found = read_traceparent(carrier.get("traceparent", ""))
    if found is None:
        return None
    state = TraceState.from_header([carrier.get("tracestate", "")])
    trace_id, span_id, flags = found
    return SpanContext(trace_id, span_id, True, TraceFlags(flags), state)


def carrier_of(span: Span) -> dict[str, str]:
    """Return `traceparent` and `tracestate` for whoever goes on with a span."""
    context = span.get_span_context()
    parent = f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"
    return {"traceparent": parent, "tracestate": context.trace_state.to_header()}


def inside(span: Span) -> Context:
    """Return the context in which a span is the current one."""
    return trace.set_span_in_context(span)


def link(span: Span, other: Span) -> None:
    """Have a span point to another one; not possible before version 1.23 of the API, and left out there."""
    add_link = getattr(span, "add_link", None)
    if add_link is not None:
        add_link(other.get_span_context())


def note_error(span: Span, error: BaseException) -> None:
    """Say that a span's work raised."""
    span.record_exception(error)
    span.set_status(Status(StatusCode.ERROR, f"{type(error).__name__}: {error}"))


def note_failure(span: Span, failure: Failure, *, traceback: bool = True) -> None:
    """Say how a span's request failed. Below 500 it is the client's doing, and no error of ours."""
    span.set_attribute("error.type", failure.code)
    if failure.status >= 500:
        span.set_status(Status(StatusCode.ERROR, failure.message or str(failure.detail)))
        if failure.traceback_text and traceback:
            event = {
                "exception.type": failure.message.partition(":")[0],
                "exception.message": failure.message,
                "exception.stacktrace": failure.traceback_text,
            }
            span.add_event("exception", event)
