# SPDX-License-Identifier: Apache-2.0
"""Streams: one entry's generator at a time, or one generator for a batch.

A stream's writer waits for credit, so a slow client slows the generator that works for it. In a batch a slow client gets
a backlog instead, so that the others go on (`shared_streams.py`).

Flow:  Workplace.claim -> Runner.decode -> streams.pump | BatchStreams -> Workplace.push, deliver
Owns:  nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cubbyhole.core.current import set_current
from cubbyhole.core.errors import BatchSizeMismatch
from cubbyhole.worker.batches import Batch
from cubbyhole.worker.loops.base import LitLoop
from cubbyhole.worker.loops.batched import gather
from cubbyhole.worker.runner import fire
from cubbyhole.worker.shared_streams import BatchStreams
from cubbyhole.worker.streams import close, pump
from cubbyhole.worker.task import Raised
from cubbyhole.worker.threads import END

if TYPE_CHECKING:
    from cubbyhole.core.entries import ClaimedEntry
    from cubbyhole.worker.loops.base import Workplace
    from cubbyhole.worker.runner import Runner

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
                set_current(None)
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
    set_current(None)


def run_streams(place: Workplace, batch: Batch) -> None:
    """Publish what a batch's generator yields until it ends, or until nobody listens."""
    batch.become_current()
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
        while streams.is_stuck():
            streams.wait()
        if not streams.open:
            runner.attempt(close, generator)
            break


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
