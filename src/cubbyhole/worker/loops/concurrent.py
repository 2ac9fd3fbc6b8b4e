# SPDX-License-Identifier: Apache-2.0
"""Asynchronous APIs: many entries on one event loop, alone or in batches, answered at once or as streams.

    reader callback (port's descriptor) ─ wakes ─> Desk.serve ─ claim ─> a task for each entry or batch
                                          └ wakes the streams that wait for credit

Flow:  Workplace.claim -> Runner.*_async -> Desk.deliver | push
Owns:  the running tasks. A cancelled entry's task is cancelled within a tick.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from cubbyhole.api.lit_api import overrides
from cubbyhole.core.entries import Chunk, Failure, Result
from cubbyhole.core.errors import ChannelFull, EntryTooLarge, StaleOwner
from cubbyhole.worker.batches import Batch
from cubbyhole.worker.loops.base import CANCELLED, ROOM_STEP_S, ROOM_WAIT_S
from cubbyhole.worker.loops.streaming import checked
from cubbyhole.worker.runner import fire
from cubbyhole.worker.shared_streams import BatchStreams
from cubbyhole.worker.streams import close_async, each, steps_async
from cubbyhole.worker.task import Raised
from cubbyhole.worker.threads import END

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Coroutine

    from cubbyhole.core.entries import Buffer, ClaimedEntry
    from cubbyhole.worker.loops.base import Workplace
    from cubbyhole.worker.runner import Runner
    from cubbyhole.worker.task import Task

CLAIM_MOST = 64  # entries at a wake-up: others than this worker may want some
BUSY_TICK_S = 0.1  # how soon a running task hears that its client has gone


def serve_concurrently(place: Workplace) -> None:
    """Serve until told to stop, then finish what was claimed."""
    asyncio.run(Desk(place).serve())


class Desk:
    """What the tasks of one worker share."""

    def __init__(self, place: Workplace) -> None:
        self._place = place
        self._runner = place.runner
        self._woken = asyncio.Event()
        self._tasks: dict[asyncio.Task[None], list[ClaimedEntry]] = {}
        self._credit: asyncio.Future[None] | None = None

    async def serve(self) -> None:
        """Turn entries into tasks until told to stop."""
        place, loop = self._place, asyncio.get_running_loop()
        descriptor = place.port.fileno()
        loop.add_reader(descriptor, self._woken.set)
        ticker = asyncio.create_task(self._tick())
        take = self._take_batch if place.settings.max_batch_size > 1 else self._take_each
        try:
            while not place.stopping.is_set():
                await take()
        finally:
            ticker.cancel()
            while self._tasks:
                await asyncio.wait(self._tasks, timeout=BUSY_TICK_S)
                self._look_after_tasks()
                self._claim_quietly()
            loop.remove_reader(descriptor)

    # Taking entries.

    async def _take_each(self) -> None:
        entries = self._place.claim(CLAIM_MOST, 0.0)
        for entry in entries:
            self._start(self._run(entry), [entry])
        if entries:
            await asyncio.sleep(0)
        else:
            await self._sleep(None)

    async def _take_batch(self) -> None:
        size, window_s = self._place.settings.max_batch_size, self._place.settings.batch_timeout_s
        entries: list[ClaimedEntry] = []
        close_s = 0.0
        while len(entries) < size and not self._place.stopping.is_set():
            new = self._place.claim(size - len(entries), 0.0)
            if new and not entries:
                close_s = time.monotonic() + window_s
            entries += new
            left_s = close_s - time.monotonic() if entries else None
            if left_s is not None and left_s <= 0:
                break
            if not new:
                await self._sleep(left_s)
        if entries:
            self._place.count_batch(len(entries), window_s - (close_s - time.monotonic()))
        entries = [entry for entry in entries if not self._place.refuses(entry)]
        if entries:
            run = self._run_stream_batch if self._runner.lit_api.stream else self._run_batch
            self._start(run(entries), entries)
        await asyncio.sleep(0)

    async def _sleep(self, wait_s: float | None) -> None:
        """Until the port rings, for `wait_s` at most."""
        if self._place.port.listen():
            timer = None
            if wait_s is not None:
                timer = asyncio.get_running_loop().call_later(wait_s, self._woken.set)
            await self._woken.wait()
            if timer is not None:
                timer.cancel()
        self._woken.clear()
        credit, self._credit = self._credit, None
        if credit is not None and not credit.done():
            credit.set_result(None)

    def _claim_quietly(self) -> None:
        """While draining: nothing new is taken, but whoever waits for credit looks again."""
        credit, self._credit = self._credit, None
        if credit is not None and not credit.done():
            credit.set_result(None)

    def _start(self, work: Coroutine[Any, Any, None], entries: list[ClaimedEntry]) -> None:
        task = asyncio.create_task(work)
        self._tasks[task] = entries
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        entries = self._tasks.pop(task)
        if task.cancelled():
            for entry in entries:
                self._place.deliver(entry, CANCELLED)
        else:
            error = task.exception()
            if error is not None:  # of the channel, as user code is contained
                self._place.stopping.set()
                self._woken.set()

    async def _tick(self) -> None:
        """Beat, and end what nobody waits for. It turns only while the event loop does: that is what a beat means."""
        idle_s = self._place.idle_wait_s
        while True:
            await asyncio.sleep(min(BUSY_TICK_S, idle_s) if self._tasks else idle_s)
            self._place.beat()
            self._look_after_tasks()
            if self._place.stopping.is_set() or self._credit is not None:
                self._woken.set()

    def _look_after_tasks(self) -> None:
        for task, entries in list(self._tasks.items()):
            if all(entry.cancelled for entry in entries):
                task.cancel()

    # Running them.

    async def _run(self, entry: ClaimedEntry) -> None:
        runner = self._runner
        task = await runner.decode_async(entry)
        if task.failure is None and runner.streams(task):
            await self._stream(task)
        else:
            await self.deliver(entry, await runner.finish_async(task))

    async def _stream(self, task: Task) -> None:
        runner = self._runner
        produced = steps_async(runner, task)
        started = False
        try:
            while True:
                body = await runner.attempt_async(anext(produced, END))
                if body is END or type(body) is Failure:
                    break
                if not await self.push(task, body):
                    body = task.failure or CANCELLED
                    break
                started = True
        finally:
            await runner.attempt_async(produced.aclose())
        if body is END:
            await self.deliver(task.entry, Result(b"", *task.head))
            return
        if started and body is not CANCELLED:
            words = runner.end_of(task, body)
            if words:
                await self.push(task, words)
        await self.deliver(task.entry, body)

    async def _run_batch(self, entries: list[ClaimedEntry]) -> None:
        batch = await self._decode(entries)
        await batch.predict_async()
        fire(self._runner.events.before_encode)
        for task, outputs in batch.by_task():
            await self.deliver(task.entry, await batch.encode_async(task, outputs))
        fire(self._runner.events.after_encode)

    async def _decode(self, entries: list[ClaimedEntry]) -> Batch:
        runner = self._runner
        fire(runner.events.before_decode)
        tasks = await asyncio.gather(*(runner.decode_silently_async(entry) for entry in entries))
        fire(runner.events.after_decode)
        return Batch(runner, tasks)

    async def _run_stream_batch(self, entries: list[ClaimedEntry]) -> None:
        batch = await self._decode(entries)
        for task in batch.tasks:
            if task.failure is not None:
                await self.deliver(task.entry, task.failure)
        batch.tasks = [task for task in batch.tasks if task.failure is None]
        if batch.places:
            await self._run_streams(batch)

    async def _run_streams(self, batch: Batch) -> None:
        batch.become_current()  # a task's context ends with it
        runner = self._runner
        streams = BatchStreams(self._place, batch)
        generator = batch_steps_async(runner, batch)
        started = False
        try:
            while True:
                step = await runner.attempt_quietly_async(anext(generator, END))
                if step is END or isinstance(step, Raised):
                    break
                started = True
                streams.push(step)
                while streams.is_stuck():
                    await self.credit()
                if not streams.open:
                    break
        finally:
            await runner.attempt_async(generator.aclose())
        if not isinstance(step, Raised):
            streams.end()
        elif not started and batch.fails_whole(step) is None:
            for stream in list(streams.open.values()):
                await self._run_streams(Batch(runner, [stream.task]))
            streams.open.clear()
        else:
            streams.fail_all(runner.contain(step.error))

    # Answering.

    async def deliver(self, entry: ClaimedEntry, outcome: Result | Failure) -> None:
        """Give an entry its final outcome; waiting for room does not hold up the others."""
        give_up_s = time.monotonic() + ROOM_WAIT_S
        while not self._place.try_deliver(entry, outcome):
            if time.monotonic() > give_up_s:
                self._place.give_up(entry)
                return
            await asyncio.sleep(ROOM_STEP_S)

    async def push(self, task: Task, body: Buffer) -> bool:
        """Publish a chunk, waiting for credit as long as somebody reads. False: stop producing."""
        entry = task.entry
        chunk = Chunk(body, *task.head)
        try:
            while not self._place.port.publish(entry, chunk):
                if entry.cancelled:
                    return False
                await self.credit()
        except (EntryTooLarge, ChannelFull) as error:
            task.failure = Failure(error.code, error.status, str(error), message=str(error))
            return False
        except StaleOwner:
            return False
        return not entry.cancelled

    async def credit(self) -> None:
        """Until the port rings: perhaps a reader has made room."""
        if self._credit is None:
            self._credit = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._credit)


async def batch_steps_async(runner: Runner, batch: Batch) -> AsyncGenerator[list[Any], None]:
    """Yield lists of encoded values, one for each place of the batch. Raises what user code raises."""
    events, lit_api = runner.events, runner.lit_api
    fire(events.before_predict)
    output = runner.predict_hook.call(lit_api.batch(batch.inputs), batch.contexts, batch.cancelled)
    encoded: Any = None
    try:
        fire(events.before_encode)
        own = overrides(lit_api, "unbatch")  # the default one knows plain generators only
        unbatched = lit_api.unbatch(output) if own else _lists(output)
        encode_step = getattr(runner.spec, "encode_step", None)
        if runner.encode_hook.is_default:
            encoded = unbatched
        else:
            encoded = runner.encode_hook.call(unbatched, batch.contexts, batch.cancelled)
            encode_step = None
        async for step in each(encoded):
            values = checked(step, len(batch.places))
            yield values if encode_step is None else list(map(encode_step, values))
    finally:
        await close_async(encoded)
        await close_async(output)
    fire(events.after_predict)
    fire(events.after_encode)


async def _lists(output: Any) -> AsyncIterator[list[Any]]:
    async for step in each(output):
        yield list(step)
