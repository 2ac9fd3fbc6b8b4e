# SPDX-License-Identifier: Apache-2.0
"""Streams: one entry's generator at a time, or one generator for a batch.

A stream's writer waits for credit, so a slow client slows the generator that works for it. In a batch a slow client gets
a backlog instead, so that the others go on; what is left of it at the end is passed on by a thread.

Flow:  Workplace.claim -> Runner.decode -> streams.pump | BatchStream -> Workplace.push, deliver
Owns:  the backlogs of one batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cubbyhole.core.entries import Chunk, Failure, Result
from cubbyhole.core.errors import BatchSizeMismatch, ChannelError
from cubbyhole.worker.answers import flat_buffer
from cubbyhole.worker.batches import Batch
from cubbyhole.worker.loops.base import CANCELLED, LitLoop
from cubbyhole.worker.loops.batched import gather
from cubbyhole.worker.runner import END, Raised, fire
from cubbyhole.worker.streams import begin, close, pump

if TYPE_CHECKING:
    from cubbyhole.core.entries import ClaimedEntry
    from cubbyhole.worker.loops.base import Workplace
    from cubbyhole.worker.runner import Runner, Task

BACKLOG_BYTES = (
    1 << 20
)  # what a batch keeps for one slow client before the whole batch waits for it


class StreamingLoop(LitLoop):
    """The loop of a streaming API; with `enable_async`, all claimed streams at once."""

    def serve(self, place: Workplace) -> None:
        """Serve until told to stop."""
        if place.settings.is_async:
            from cubbyhole.worker.loops.concurrent import serve_concurrently

            serve_concurrently(place)
            return
        runner = place.runner
        while not place.stopping.is_set():
            for entry in place.claim(1, place.idle_wait_s):
                task = runner.decode(entry)
                if task.failure is None and runner.streams(task):
                    pump(place, task)
                else:
                    place.deliver(entry, runner.finish(task))
                del entry, task  # they hold a lease of the segment; the next one may be hours away


class BatchedStreamingLoop(LitLoop):
    """The loop of a streaming API with `max_batch_size > 1`."""

    def serve(self, place: Workplace) -> None:
        """Serve until told to stop."""
        if place.settings.is_async:
            from cubbyhole.worker.loops.concurrent import serve_concurrently

            serve_concurrently(place)
            return
        while not place.stopping.is_set():
            entries = gather(place, place.idle_wait_s)
            if entries:
                stream_batch(place, entries)


def stream_batch(place: Workplace, entries: list[ClaimedEntry]) -> None:
    """Run one batch of streams to its end."""
    runner = place.runner
    fire(runner.events.before_decode)
    tasks = [runner.decode_silently(entry) for entry in entries if not place.refuses(entry)]
    fire(runner.events.after_decode)
    for task in tasks:
        if task.failure is not None:
            place.deliver(task.entry, task.failure)
    batch = Batch(runner, [task for task in tasks if task.failure is None])
    if batch.places:
        run_streams(place, batch)


def run_streams(place: Workplace, batch: Batch) -> None:
    """Publish what a batch's generator yields until it ends, or until nobody listens."""
    runner = batch.runner
    streams = BatchStreams(place, batch)
    generator = batch_steps(runner, batch)
    started = False
    while True:
        step = runner.attempt_quietly(next, generator, END)
        if step is END:
            streams.end()
            break
        if isinstance(step, Raised):
            _fail(place, batch, streams, step, started)
            break
        started = True
        streams.push(step)
        place.beat()
        if not streams.open:
            runner.attempt(close, generator)
            break
    streams.flush()


def _fail(
    place: Workplace, batch: Batch, streams: BatchStreams, raised: Raised, started: bool
) -> None:
    """All places fail alike, unless nothing was sent yet: then each may try alone."""
    if not started and batch.fails_whole(raised) is None:
        alone = list(streams.open.values())
        streams.open.clear()
        for stream in alone:
            run_streams(place, Batch(batch.runner, [stream.task]))
        return
    streams.fail_all(batch.runner.contain(raised.error))


def batch_steps(runner: Runner, batch: Batch) -> Any:
    """Yield lists of encoded values, one for each place of the batch. Raises what user code raises."""
    events, lit_api = runner.events, runner.lit_api
    fire(events.before_predict)
    output = runner.predict_hook.call(lit_api.batch(batch.inputs), batch.contexts, batch.cancelled)
    encoded = None
    try:
        unbatched = lit_api.unbatch(output)
        fire(events.before_encode)
        encode_step = getattr(runner.spec, "encode_step", None)
        if runner.encode_hook.is_default and encode_step is not None:
            encoded = (list(map(encode_step, step)) for step in unbatched)
        else:
            encoded = runner.encode_hook.call(unbatched, batch.contexts, batch.cancelled)
        for step in encoded:
            yield checked(step, len(batch.places))
    finally:
        close(encoded)
        close(output)
    fire(events.after_predict)
    fire(events.after_encode)


def checked(step: Any, size: int) -> list[Any]:
    """One step's values as a list.

    Raises:
        BatchSizeMismatch: not one for each place.
    """
    values = step if isinstance(step, list) else list(step)
    if len(values) != size:
        raise BatchSizeMismatch(
            f"A step of the stream has {len(values)} values for {size} inputs. Yield one for each, in their order."
        )
    return values


class TaskStream:
    """One task of a batch of streams: its renderer or its gathered steps, and its backlog."""

    def __init__(self, place: Workplace, task: Task) -> None:
        self.place = place
        self.task = task
        self.runner = place.runner
        self.renders = self.runner.spec is not None
        self.streams = self.runner.streams(task)
        self.gathered: list[list[Any]] = [[] for _ in task.inputs]
        self.backlog: list[bytes] = []
        self.backlog_bytes = 0
        self.outcome: Result | Failure | None = None

    def add(self, choice: int, value: Any) -> None:
        """Take one encoded value. Raises what rendering raises."""
        if not self.streams:
            self.gathered[choice].append(value)
            return
        if self.renders:
            if self.task.renderer is None:
                begin(self.runner, self.task)
            self.queue(self.task.renderer.step(choice, value))
        else:
            self.queue(self.runner.chunk(value))

    def queue(self, body: Any) -> None:
        """Send bytes now, or keep them until the client reads again."""
        if not len(body):
            return
        entry = self.task.entry
        if not self.backlog and self.place.port.publish(entry, Chunk(body, *self.task.head)):
            return
        kept = bytes(flat_buffer(body))
        self.backlog.append(kept)
        self.backlog_bytes += len(kept)

    def flush(self, patiently: bool) -> bool:
        """Send the backlog as one chunk. False: somebody still has to wait for the client."""
        if not self.backlog:
            return True
        body = b"".join(self.backlog)
        if patiently:
            self.place.push(self.task, body)
        elif not self.place.port.publish(self.task.entry, Chunk(body, *self.task.head)):
            return False
        self.backlog, self.backlog_bytes = [], 0
        return True

    def close(self, outcome: Result | Failure | None = None) -> None:
        """Say how it ended; None: by itself."""
        self.outcome = outcome if outcome is not None else self.runner.attempt(self._finish)
        if isinstance(self.outcome, Failure) and self.task.renderer is not None:
            self.runner.attempt(self.queue, self.runner.end_of(self.task, self.outcome))

    def _finish(self) -> Result:
        if not self.streams:
            return self.runner.render(self.task, self.gathered)
        if self.renders:
            if self.task.renderer is None:
                begin(self.runner, self.task)
            self.queue(self.task.renderer.finish())
        return Result(b"", *self.task.head)

    def drop(self) -> None:
        """Forget the backlog."""
        self.backlog, self.backlog_bytes = [], 0

    def settle(self) -> None:
        """Send what is left and the outcome, however slowly the client reads."""
        self.flush(patiently=True)
        self.place.deliver(self.task.entry, self.outcome or CANCELLED)


class BatchStreams:
    """The streams of one batch.

    Attributes:
        open: Those that still get chunks, by the id of their task.
    """

    def __init__(self, place: Workplace, batch: Batch) -> None:
        self._place = place
        self._batch = batch
        self.open = {id(task): TaskStream(place, task) for task in batch.tasks}
        self._ended: list[TaskStream] = []

    def push(self, step: list[Any], patiently: bool = True) -> bool:
        """Send each place its value of a step; None sends nothing, an exception fails its task.

        Returns:
            Whether a client is so slow that the batch has to wait; never if `patiently`, as then it has waited.
        """
        for (task, choice), value in zip(self._batch.places, step, strict=True):
            stream = self.open.get(id(task))
            if stream is None or value is None:
                continue
            if task.entry.cancelled:
                self._end(stream, CANCELLED)
            elif isinstance(value, Exception):
                self._end(stream, self._batch.runner.contain(value))
            else:
                failure = self._batch.runner.attempt(stream.add, choice, value)
                if failure is not None:
                    self._end(stream, failure)
        return any([self._is_slow(stream, patiently) for stream in self.open.values()])  # noqa: C419

    def _is_slow(self, stream: TaskStream, patiently: bool) -> bool:
        if not stream.backlog or stream.flush(patiently=False):
            return False
        if stream.backlog_bytes <= BACKLOG_BYTES or stream.task.entry.cancelled:
            return False
        if patiently:
            stream.flush(patiently=True)
        return not patiently

    def _end(self, stream: TaskStream, outcome: Result | Failure | None) -> None:
        del self.open[id(stream.task)]
        stream.close(outcome)
        self._ended.append(stream)
        self.flush()

    def end(self) -> None:
        """The generator is through."""
        for stream in list(self.open.values()):
            self._end(stream, None)

    def fail_all(self, failure: Failure) -> None:
        """The generator raised."""
        for stream in list(self.open.values()):
            self._end(stream, failure)

    def flush(self) -> None:
        """Deliver ended streams; those with a backlog in a thread, as the next batch must not wait for them."""
        ended, self._ended = self._ended, []
        for stream in ended:
            settle_late(stream)


def settle_late(stream: TaskStream) -> None:
    """Deliver an ended stream; with a backlog in a thread, as nobody else shall wait for its client."""
    if stream.flush(patiently=False):
        stream.settle()
    else:
        stream.place.start_aside(_settle, stream)


def _settle(stream: TaskStream) -> None:
    try:
        stream.settle()
    except ChannelError:
        return  # the channel went away under the last words; the main thread sees it, too
