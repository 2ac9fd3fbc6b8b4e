# SPDX-License-Identifier: Apache-2.0
"""Our spans are, to whoever gets them, what the SDK's tracer makes of the same calls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("opentelemetry.sdk")

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.trace.span import TraceState

from cubbyhole.observe.spans import RequestSpan, SpanMaker
from cubbyhole.observe.traces import remote_parent, resource_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.trace import Span

STATE = TraceState([("vendor", "value")])
PARENT = SpanContext(1 << 100, 1 << 50, True, TraceFlags(1), STATE)
OTHER = SpanContext(3, 4, False, TraceFlags(1))


class Kept(SpanProcessor):
    """Keeps what begins and what ends."""

    def __init__(self) -> None:
        self.begun: list[Any] = []
        self.ended: list[ReadableSpan] = []

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        del parent_context
        self.begun.append(span)

    def on_end(self, span: ReadableSpan) -> None:
        self.ended.append(span)


class Makers:
    """A provider with its tracer, and our maker of the same provider."""

    def __init__(self) -> None:
        self.provider = TracerProvider(resource=Resource({"service.name": "s"}))
        self.kept = Kept()
        self.provider.add_span_processor(self.kept)
        self.tracer = self.provider.get_tracer("cubbyhole")
        self.maker = SpanMaker(self.provider, self.tracer, "cubbyhole")


@pytest.fixture
def makers() -> Makers:
    return Makers()


def attributes(span: Span) -> None:
    span.set_attribute("text", "x" * 50)
    span.set_attributes({"number": 3, "flag": True, "list": [1, 2], "text": "again"})


def events(span: Span) -> None:
    span.add_event("first chunk", timestamp=7)
    span.add_event("with", {"a": "b" * 50, "c": [1.5]}, timestamp=8)


def an_exception(span: Span) -> None:
    nothing: dict[str, int] = {}
    try:
        nothing["no such"]
    except KeyError as error:
        span.record_exception(error, {"more": 1}, timestamp=9)


def one_of_our_own(span: Span) -> None:
    span.record_exception(pytest.UsageError("own module"), timestamp=9, escaped=True)


def links(span: Span) -> None:
    span.add_link(OTHER)
    span.add_link(PARENT, {"why": "batch"})


def an_error(span: Span) -> None:
    span.set_status(StatusCode.ERROR, "it failed")


def an_error_that_was_mended(span: Span) -> None:
    span.set_status(Status(StatusCode.ERROR, "at first"))
    span.set_status(StatusCode.OK)
    span.set_status(StatusCode.ERROR, "too late")
    span.set_status(StatusCode.UNSET)


def another_name(span: Span) -> None:
    span.update_name("renamed")


def changes_after_the_end(span: Span) -> None:
    span.end(100)
    span.set_attribute("late", 1)
    span.add_event("late")
    span.add_link(OTHER)
    span.update_name("late")
    span.set_status(StatusCode.ERROR)
    span.end(200)


def more_than_the_limits(span: Span) -> None:
    for number in range(140):
        span.set_attribute(f"a{number}", number)
        span.add_event(f"e{number}", timestamp=number)
        span.add_link(OTHER)


CALLS = (
    attributes, events, an_exception, one_of_our_own, links, an_error, an_error_that_was_mended, another_name, changes_after_the_end,
    more_than_the_limits,
)  # fmt: skip


def shown(span: ReadableSpan) -> Any:
    """A span as it is sent, but for its own ids."""
    sent = encode_spans([span])
    of_one = sent.resource_spans[0].scope_spans[0].spans[0]
    assert len(of_one.span_id) == 8
    of_one.span_id = b""
    if span.parent is None:
        assert len(of_one.trace_id) == 16
        of_one.trace_id = b""
    return sent


@pytest.mark.parametrize("parent", [None, PARENT], ids=["root", "child"])
@pytest.mark.parametrize("call", CALLS)
def test_what_is_sent_is_what_the_sdk_sends(
    makers: Makers, call: Callable[[Span], None], parent: SpanContext | None, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.setenv("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "20")
    makers = Makers()
    above = trace.set_span_in_context(trace.NonRecordingSpan(parent)) if parent else None
    first, to = {"first": 1}, [Link(OTHER, {"n": 1})]
    theirs = makers.tracer.start_span("name", above, SpanKind.SERVER, first, to, start_time=5)
    ours = makers.maker.start("name", parent, SpanKind.SERVER, first, to, start_time=5)
    for span in (theirs, ours):
        call(span)
        span.end(100)
        assert not span.is_recording()
    assert len(makers.kept.ended) == 2
    expected, found = map(shown, makers.kept.ended)
    assert found == expected


def test_a_value_that_no_span_may_have_is_dropped_alone(makers: Makers) -> None:
    span = makers.maker.start("name", None)
    span.set_attributes({"object": object(), "good": 1})  # type: ignore[dict-item]
    span.end()
    sent = shown(makers.kept.ended[0])
    assert "good" in str(sent)


def test_below_a_parent_that_is_not_sampled_nothing_is_recorded(makers: Makers) -> None:
    parent = SpanContext(5, 6, True, TraceFlags(0), STATE)
    span = makers.maker.start("name", parent)
    context = span.get_span_context()
    assert not span.is_recording()
    assert (context.trace_id, context.trace_flags, context.trace_state) == (5, 0, STATE)
    assert context.span_id != 6
    span.end()
    assert makers.kept.begun == makers.kept.ended == []


def test_a_span_of_user_code_stands_below_ours(makers: Makers) -> None:
    ours = makers.maker.start("predict", PARENT)
    with trace.use_span(ours, end_on_exit=True), makers.tracer.start_as_current_span("theirs"):
        pass
    theirs, own = makers.kept.ended
    assert theirs.parent == own.get_span_context()
    assert own.parent == PARENT


def test_a_processor_of_user_code_may_change_a_span_that_begins(makers: Makers) -> None:
    ours = makers.maker.start("predict", None)
    assert isinstance(makers.kept.begun[0], RequestSpan)
    makers.kept.begun[0].set_attribute("tenant", "a")
    ours.end()
    assert makers.kept.ended[0].attributes == {"tenant": "a"}


def test_an_exception_that_leaves_a_span_s_block_is_in_it(makers: Makers) -> None:
    with pytest.raises(ValueError, match="broken"), makers.maker.start("name", None):
        raise ValueError("broken")
    (ended,) = makers.kept.ended
    assert ended.status.status_code is StatusCode.ERROR
    assert ended.status.description == "ValueError: broken"
    assert [event.name for event in ended.events] == ["exception"]


def test_the_hash_of_a_resource_is_made_once_and_is_the_sdk_s(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = resource_of("worker 0")
    plain = Resource(found.attributes, found.schema_url)
    assert (hash(found), found) == (hash(plain), plain)
    monkeypatch.setattr(Resource, "__hash__", lambda _: 1 / 0)
    assert hash(found) == hash(found)


def test_a_parent_is_read_as_the_propagator_reads_it() -> None:
    text = f"00-{1 << 100:032x}-{1 << 50:016x}-01"
    assert remote_parent({"traceparent": text, "tracestate": "vendor=value"}) == PARENT
    assert remote_parent({"traceparent": text, "tracestate": "###"}) is not None
    assert remote_parent({"traceparent": "no", "tracestate": "vendor=value"}) is None
    assert remote_parent({}) is None
