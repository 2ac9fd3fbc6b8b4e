# SPDX-License-Identifier: Apache-2.0
"""Spans of requests, made without the SDK's tracer; all around them is the SDK's: ids, limits, processors, exporters.

The SDK takes 40 us for a span, and several times that between two requests, whose code and data fill the caches: it asks a sampler for
each although its request was chosen before, and makes lists and locks for what most spans do not have. These take a third of it. They are
for a provider that is ours; where user code has set one, or a sampler, its tracer makes all spans (traces.py).

Flow:  traces.Tracer -> **SpanMaker.start** -> **RequestSpan** -> its end -> the provider's processors
Owns:  nothing.
See:   docs/guide/tracing.md, docs/decisions/0063-spans-without-the-tracer.md
"""

from __future__ import annotations

import time
import traceback
from typing import TYPE_CHECKING, Any

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk.trace import Event, ReadableSpan, SpanLimits
from opentelemetry.sdk.util import BoundedList
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from opentelemetry.sdk.trace import TracerProvider

_SAMPLED, _UNSAMPLED = TraceFlags(TraceFlags.SAMPLED), TraceFlags(TraceFlags.DEFAULT)
_UNSET = Status(StatusCode.UNSET)


class SpanMaker:
    """Makes spans of one process.

    Args:
        provider: Whose resource and ids they have.
        tracer: One of that provider's, whose processors get them: those that are there, and those that user code adds.
        name: Of the instrumentation scope.
    """

    def __init__(self, provider: TracerProvider, tracer: Any, name: str) -> None:
        self.resource = provider.resource
        self.processor = tracer.span_processor
        self.scope = InstrumentationScope(name)
        self.limits = SpanLimits()  # from the OTEL_* variables, as the provider's
        self._ids = provider.id_generator

    def start(
        self,
        name: str,
        parent: SpanContext | None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Mapping[str, Any] | None = None,
        links: Sequence[Link] = (),
        start_time: int | None = None,
    ) -> Span:
        """Begin a span; one that is not recorded, where its parent is not.

        Args:
            name: Of the span.
            parent: None: it is the first of its trace.
            kind: Of the span.
            attributes: Its first ones.
            links: To other spans.
            start_time: Time of day, in ns; None: now.
        """
        span_id = self._ids.generate_span_id()
        if parent is None:
            context = SpanContext(self._ids.generate_trace_id(), span_id, False, _SAMPLED)
        else:
            sampled = parent.trace_flags & TraceFlags.SAMPLED
            flags = _SAMPLED if sampled else _UNSAMPLED
            context = SpanContext(parent.trace_id, span_id, False, flags, parent.trace_state)
            if not sampled:
                return NonRecordingSpan(context)
        span = RequestSpan(self, name, context, parent, kind, start_time or time.time_ns())
        if attributes:
            span.set_attributes(attributes)
        if links:
            span.links = BoundedList.from_seq(self.limits.max_links, links)
        self.processor.on_start(span)
        return span


class RequestSpan(Span):
    """A span as the API has it; user code gets it as the current one, and may do with it what spans are for.

    Attributes:
        name, context, parent, kind, attributes, events, links, status, start_time, end_time: As of the SDK's.
    """

    def __init__(
        self,
        maker: SpanMaker,
        name: str,
        context: SpanContext,
        parent: SpanContext | None,
        kind: SpanKind,
        start_time: int,
    ) -> None:
        self._maker = maker
        self.name = name
        self.context = context
        self.parent = parent
        self.kind = kind
        self.status = _UNSET
        self.start_time = start_time
        self.end_time: int | None = None
        self.attributes: Any = None
        self.events: Any = ()
        self.links: Any = ()

    def get_span_context(self) -> SpanContext:
        """Return what others need to point to it."""
        return self.context

    def is_recording(self) -> bool:
        """Return whether it has not ended."""
        return self.end_time is None

    def update_name(self, name: str) -> None:
        """Give it another name."""
        if self.end_time is None:
            self.name = name

    def set_attribute(self, key: str, value: Any) -> None:
        """Note a value; one that no span may have is dropped, with a warning."""
        if self.end_time is None:
            if self.attributes is None:
                self.attributes = self._bounded(self._maker.limits.max_span_attributes)
            self.attributes[key] = value

    def set_attributes(self, attributes: Mapping[str, Any]) -> None:
        """Note values."""
        for key, value in attributes.items():
            self.set_attribute(key, value)

    def add_event(
        self, name: str, attributes: Mapping[str, Any] | None = None, timestamp: int | None = None
    ) -> None:
        """Note something that happened."""
        limits = self._maker.limits
        if self.end_time is None:
            if not self.events:
                self.events = BoundedList(limits.max_events)
            noted = self._bounded(limits.max_event_attributes, attributes)
            self.events.append(Event(name, noted, timestamp))

    def add_link(self, context: SpanContext, attributes: Mapping[str, Any] | None = None) -> None:
        """Point to another span."""
        limits = self._maker.limits
        if self.end_time is None:
            if not self.links:
                self.links = BoundedList(limits.max_links)
            self.links.append(Link(context, self._bounded(limits.max_link_attributes, attributes)))

    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:
        """Say how it went; the first OK is final, as the SDK has it."""
        if isinstance(status, StatusCode):
            status = Status(status, description)
        final = self.status.status_code is StatusCode.OK
        if self.end_time is None and not final and status.status_code is not StatusCode.UNSET:
            self.status = status

    def record_exception(
        self,
        exception: BaseException,
        attributes: Mapping[str, Any] | None = None,
        timestamp: int | None = None,
        escaped: bool = False,
    ) -> None:
        """Note an exception as an event."""
        kind = type(exception)
        module = "" if kind.__module__ in {None, "builtins"} else f"{kind.__module__}."
        noted = {
            "exception.type": module + kind.__qualname__,
            "exception.message": str(exception),
            "exception.stacktrace": "".join(traceback.format_exception(exception)),
            "exception.escaped": str(escaped),
            **(attributes or {}),
        }
        self.add_event("exception", noted, timestamp)

    def end(self, end_time: int | None = None) -> None:
        """End it, and hand it over; later changes are not seen."""
        if self.end_time is not None:
            return
        self.end_time = time.time_ns() if end_time is None else end_time
        self._maker.processor.on_end(
            ReadableSpan(
                self.name,
                self.context,
                self.parent,
                self._maker.resource,
                self.attributes,
                self.events,
                self.links,
                self.kind,
                status=self.status,
                start_time=self.start_time,
                end_time=self.end_time,
                instrumentation_scope=self._maker.scope,
            )
        )

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> None:
        if error is not None:
            self.record_exception(error, escaped=True)
            self.set_status(StatusCode.ERROR, f"{type(error).__name__}: {error}")
        self.end()

    def _bounded(self, most: int | None, attributes: Mapping[str, Any] | None = None) -> Any:
        return BoundedAttributes(
            most,
            attributes,
            immutable=False,
            max_value_len=self._maker.limits.max_span_attribute_length,
        )
