# SPDX-License-Identifier: Apache-2.0
"""A worker's port and runner with spans, for servers with `otel` on; others have the plain ones and pay nothing.

A port sees every entry come (`claim`) and go (`publish` of its outcome), whatever the loop between does; a runner's hooks are the one
place where user code is called, and know by `cancelled`, the method of a `Task` or `Batch`, for whom.

Flow:  main.open_workplace -> **trace** -> TracedPort, TracedRunner -> observe/traces.py
Owns:  the spans of the entries that this worker holds.
See:   observe/traces.py, docs/guide/tracing.md
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

from opentelemetry import context as otel_context
from opentelemetry.trace import SpanKind

from cubbyhole.core.clock import now_ns
from cubbyhole.core.entries import Chunk, Failure
from cubbyhole.core.errors import ChannelFull, EntryTooLarge
from cubbyhole.observe.traces import Tracer, inside, link, note_error, note_failure
from cubbyhole.worker.batches import Batch
from cubbyhole.worker.reading import decode_meta
from cubbyhole.worker.runner import Runner
from cubbyhole.worker.task import Task

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator, Iterator

    from opentelemetry.trace import Span

    from cubbyhole.channels.base import WorkerPort
    from cubbyhole.core.entries import ClaimedEntry, Outcome, Result
    from cubbyhole.worker.hooks import Hook


class Spans:
    """The worker spans of the entries under way. Only sampled ones are here.

    Attributes:
        open: By the entry's id.
    """

    def __init__(self, tracer: Tracer, worker: int, path: str) -> None:
        self.tracer = tracer
        self._fixed = {"cubbyhole.worker": worker, "cubbyhole.endpoint": path}
        self.open: dict[int, Span] = {}

    def begin(self, entry: ClaimedEntry) -> None:
        """An entry with a meta was claimed."""
        meta = decode_meta(entry.meta)
        if not meta.traceparent:  # its front made no span of it
            return
        carrier = {"traceparent": meta.traceparent, "tracestate": meta.tracestate}
        attributes = {
            **self._fixed,
            "cubbyhole.request.id": str(entry.id),
            "cubbyhole.attempt": entry.attempt,
            "cubbyhole.request.bytes": len(entry.body),
        }
        if meta.request_id:
            attributes["cubbyhole.client_request_id"] = meta.request_id
        span = self.tracer.start("worker", SpanKind.CONSUMER, carrier, attributes, now_ns())
        if span.is_recording():
            self.open[entry.id] = span

    def of(self, entry: ClaimedEntry) -> Span | None:
        """Return an entry's span, None if it is not recorded."""
        return self.open.get(entry.id)

    def end(self, entry: ClaimedEntry, outcome: Outcome) -> None:
        """An entry has its outcome."""
        span = self.open.pop(entry.id, None)
        if span is None:
            return
        if isinstance(outcome, Failure):
            note_failure(span, outcome)
        else:
            span.set_attribute("http.response.status_code", outcome.status)
        span.end()

    def note_chunk(self, entry: ClaimedEntry) -> None:
        """A part of an entry's answer went out: the first one is an event."""
        span = self.open.get(entry.id)
        if span is not None:
            attributes: Any = getattr(span, "attributes", None) or {}
            count = attributes.get("cubbyhole.chunks", 0)
            if not count:
                span.add_event("first chunk")
            span.set_attribute("cubbyhole.chunks", count + 1)

    @contextmanager
    def around(self, entry: ClaimedEntry, name: str) -> Iterator[Span | None]:
        """A span below an entry's, while the block runs."""
        parent = self.of(entry)
        if parent is None:
            yield None
            return
        span = self.tracer.child(parent, name)
        token = otel_context.attach(inside(span))
        try:
            yield span
        finally:
            otel_context.detach(token)
            span.end()

    def begin_call(self, name: str, owner: object) -> list[Span]:
        """Begin the spans of one call of a hook: for each request that it works for, and a batch's own in front."""
        if isinstance(owner, Task):
            parent = self.of(owner.entry)
            return [] if parent is None else [self.tracer.child(parent, name)]
        if not isinstance(owner, Batch):
            return []
        entries = {task.entry.id: task.entry for task, _ in owner.places}.values()
        parents = [span for entry in entries if (span := self.of(entry)) is not None]
        if not parents:
            return []
        each = [self.tracer.child(parent, name) for parent in parents]
        if name != "predict":
            return each
        # In the trace of the first of its requests, so that it is sampled as that is; the others point to it.
        batch = self.tracer.child(parents[0], "batch", links=parents)
        batch.set_attribute("cubbyhole.batch.size", len(owner.places))
        for span in (*parents, *each):
            span.set_attribute("cubbyhole.batch.size", len(owner.places))
            link(span, batch)
        return [batch, *each]

    def close(self) -> None:
        """End what is open, and send everything."""
        for span in self.open.values():
            span.end()
        self.open.clear()
        self.tracer.close()


class TracedPort:
    """A worker's port that begins and ends worker spans.

    While none is open, as most of the time on a busy server, only `claim` is other than without spans.

    Attributes:
        publish: Publish, and end the entry's span with its outcome.
    """

    def __init__(self, port: WorkerPort, spans: Spans, runner: TracedRunner) -> None:
        self._port = port
        self._spans = spans
        self._runner = runner
        self._claim, self._open = port.claim, spans.open  # for what every entry passes
        self._tracing = False
        self.publish = port.publish
        self.reserve = port.reserve
        self.listen = port.listen
        self.fileno = port.fileno

    def claim(self, max_entries: int, wait_s: float) -> list[ClaimedEntry]:
        """Claim, and begin a span for each entry."""
        entries = self._claim(max_entries, wait_s)
        for entry in entries:
            if entry.meta:  # most have none, and no span either
                self._spans.begin(entry)
        if self._tracing or self._open:
            self._turn(tracing=bool(self._open))
        return entries

    def _turn(self, *, tracing: bool) -> None:
        self._tracing = tracing
        self.publish = self._publish_traced if tracing else self._port.publish
        self._runner.turn(tracing=tracing)

    def _publish_traced(self, entry: ClaimedEntry, outcome: Outcome, wait_s: float = 0.0) -> bool:
        if entry.id not in self._open:
            return self._port.publish(entry, outcome, wait_s)
        if isinstance(outcome, Chunk):
            taken = self._port.publish(entry, outcome, wait_s)
            if taken:
                self._spans.note_chunk(entry)
            return taken
        try:
            done = self._port.publish(entry, outcome, wait_s)
        except (ChannelFull, EntryTooLarge):  # it goes on, with another outcome
            raise
        except BaseException as error:
            span = self._spans.of(entry)
            if span is not None:
                note_error(span, error)
            self._spans.end(entry, outcome)
            raise
        self._spans.end(entry, outcome)
        return done

    def close(self) -> None:
        """Give the place back, and send the spans."""
        self._port.close()
        self._spans.close()


class TracedHook:
    """A hook whose calls are spans; a generator's span lasts until it is through.

    Attributes:
        is_default, skip, plain, wants_context, is_async, is_generator, method: Of the hook.
    """

    def __init__(self, hook: Hook, name: str, spans: Spans) -> None:
        self.method = hook.method
        self.is_default, self.skip = hook.is_default, hook.skip
        self.wants_context = hook.wants_context
        self.is_async, self.is_generator = hook.is_async, hook.is_generator
        self.plain = False
        self._call = hook.call
        self._name = name
        self._spans = spans

    def call(self, value: Any, context: Any, cancelled: Any) -> Any:
        """Call the hook."""
        if self.skip:
            return self._call(value, context, cancelled)
        spans = self._spans.begin_call(self._name, getattr(cancelled, "__self__", None))
        if not spans:
            return self._call(value, context, cancelled)
        token = otel_context.attach(inside(spans[0]))
        try:
            output = self._call(value, context, cancelled)
        except BaseException as error:
            _end(spans, error)
            raise
        finally:
            otel_context.detach(token)
        if hasattr(output, "__await__"):
            return _awaited(output, spans)
        if hasattr(output, "__anext__"):
            return _stepped_async(output, spans)
        if hasattr(output, "__next__"):
            return _stepped(output, spans)
        _end(spans)
        return output


def _end(spans: list[Span], error: BaseException | None = None) -> None:
    for span in reversed(spans):
        if error is not None and not isinstance(error, (GeneratorExit, StopIteration)):
            note_error(span, error)
        span.end()


async def _awaited(awaitable: Any, spans: list[Span]) -> Any:
    token = otel_context.attach(inside(spans[0]))
    try:
        output = await awaitable
    except BaseException as error:
        _end(spans, error)
        raise
    finally:
        otel_context.detach(token)
    if hasattr(output, "__anext__"):
        return _stepped_async(output, spans)
    _end(spans)
    return output


def _stepped(steps: Any, spans: list[Span]) -> Generator[Any, None, None]:
    """A generator's steps, each inside its span: between them other requests may have their turn."""
    context = inside(spans[0])
    try:
        while True:
            token = otel_context.attach(context)
            try:
                step = next(steps)
            except StopIteration:
                break
            finally:
                otel_context.detach(token)
            yield step
    except BaseException as error:
        close = getattr(steps, "close", None)
        if close is not None:
            close()
        _end(spans, error)
        raise
    _end(spans)


async def _stepped_async(steps: Any, spans: list[Span]) -> AsyncGenerator[Any, None]:
    context = inside(spans[0])
    try:
        while True:
            token = otel_context.attach(context)
            try:
                step = await anext(steps)
            except StopAsyncIteration:
                break
            finally:
                otel_context.detach(token)
            yield step
    except BaseException as error:
        close = getattr(steps, "aclose", None)
        if close is not None:
            await close()
        _end(spans, error)
        raise
    _end(spans)


class TracedRunner(Runner):
    """A runner with a span around each of its three steps, for entries that have spans."""

    def __init__(self, spans: Spans, *made: Any, handover: bool = False) -> None:
        super().__init__(*made, handover=handover)
        self._spans = spans
        self._untraced = self.answer  # that of the plain hooks, if they allow it
        # mypy: a traced hook is a hook to all who call it
        self.predict_hook = cast("Hook", TracedHook(self.predict_hook, "predict", spans))
        self.encode_hook = cast("Hook", TracedHook(self.encode_hook, "encode", spans))

    def turn(self, *, tracing: bool) -> None:
        """Look for entries with spans, or for none."""
        self.answer = self._answer_traced if tracing else self._untraced

    def _answer_traced(self, entry: ClaimedEntry) -> Result | Failure:
        return self._answer(entry) if entry.id in self._spans.open else self._untraced(entry)

    def decode_silently(self, entry: ClaimedEntry) -> Task:
        """Read and decode, in a span."""
        with self._spans.around(entry, "decode") as span:
            task = super().decode_silently(entry)
            if span is not None and task.failure is not None:
                note_failure(span, task.failure)
        return task

    async def decode_silently_async(self, entry: ClaimedEntry) -> Task:
        """Read and decode, in a span."""
        with self._spans.around(entry, "decode") as span:
            task = await super().decode_silently_async(entry)
            if span is not None and task.failure is not None:
                note_failure(span, task.failure)
        return task

    def render(self, task: Task, outputs: list[Any]) -> Result:
        """Make final bytes; of an API without an `encode_response` that is all its encoding."""
        if not self.encode_hook.skip:
            return super().render(task, outputs)
        with self._spans.around(task.entry, "encode"):
            return super().render(task, outputs)


def trace(
    port: WorkerPort, made: tuple[Any, ...], endpoint: str, worker: int, *, handover: bool = False
) -> tuple[WorkerPort, Runner]:
    """Return a worker's port and runner with spans.

    Args:
        port: The worker's.
        made: Arguments of `Runner`.
        endpoint: As in `Tracer`.
        worker: Its number in the server.
        handover: As `Runner` takes it.
    """
    spans = Spans(Tracer(endpoint, f"worker {worker}", shared=True), worker, made[0].api_path)
    runner = TracedRunner(spans, *made, handover=handover)
    return TracedPort(port, spans, runner), runner
