# SPDX-License-Identifier: Apache-2.0
"""One task's stream: the generators of predict and encode_response -> final bytes of its chunks.

Flow:  loops/streaming.py, loops/concurrent.py -> **streams.py** -> Workplace.push
Owns:  the user's generators while they run; they are closed whatever ends the stream.

No chunk is held back to be sent with the next: nobody knows when a generator goes on, and fronts gather what has come.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cubbyhole.core.entries import Failure, Result
from cubbyhole.worker.runner import fire
from cubbyhole.worker.threads import END, in_thread

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterator

    from cubbyhole.core.entries import Buffer
    from cubbyhole.worker.loops.base import Workplace
    from cubbyhole.worker.runner import Runner
    from cubbyhole.worker.task import Task


def steps(runner: Runner, task: Task) -> Iterator[Buffer]:
    """Yield the chunks of a task's answer. Raises what user code raises."""
    if runner.spec is not None:
        return _rendered(runner, task)
    return _formatted(runner, task)


def _formatted(runner: Runner, task: Task) -> Iterator[Buffer]:
    context, cancelled, chunk = task.contexts[0], task.cancelled, runner.chunk
    fire(runner.events.before_predict)
    output = runner.predict_hook.call(task.inputs[0], context, cancelled)
    encoded = output
    try:
        fire(runner.events.before_encode)
        if not runner.encode_hook.skip:
            encoded = runner.encode_hook.call(output, context, cancelled)
        for value in encoded:
            yield chunk(value)
    finally:
        close(encoded)
        close(output)
    fire(runner.events.after_predict)
    fire(runner.events.after_encode)


def _rendered(runner: Runner, task: Task) -> Iterator[Buffer]:
    """A spec's stream: the choices take turns, step by step, until the last of them is through."""
    fire(runner.events.before_predict)
    live: dict[int, Any] = {}
    outputs = []
    try:
        for index, value in enumerate(task.inputs):
            output = runner.predict_hook.call(value, task.contexts[index], task.cancelled)
            outputs.append(output)
            live[index] = iter(
                runner.encode_hook.call(output, task.contexts[index], task.cancelled)
            )
        fire(runner.events.before_encode)
        renderer = begin(runner, task)
        while live:
            for index, encoded in list(live.items()):
                step = next(encoded, END)
                if step is END:
                    del live[index]
                    continue
                body = renderer.step(index, step)
                if body:
                    yield body
        yield renderer.finish()
    finally:
        for generator in (*live.values(), *outputs):
            close(generator)
    fire(runner.events.after_predict)
    fire(runner.events.after_encode)


def begin(runner: Runner, task: Task) -> Any:
    """Open a spec's renderer for a task."""
    task.renderer = runner.spec.open_stream(task.request)
    task.head = task.renderer.head
    return task.renderer


def close(generator: Any) -> None:
    """Close a generator of the user's, if it is one."""
    stop = getattr(generator, "close", None)
    if stop is not None:
        stop()


def pump(place: Workplace, task: Task) -> None:
    """Publish a task's stream from its first chunk to its end."""
    runner, push, beat = place.runner, place.push, place.beat
    produced = steps(runner, task)
    started = False
    while True:
        body = runner.attempt(next, produced, END)
        if body is END or type(body) is Failure:
            break
        if not push(task, body):
            runner.attempt(close, produced)
            body = task.failure or CANCELLED_STREAM
            break
        started = True
        beat()
    if type(body) is not Failure:
        place.deliver(task.entry, Result(b"", *task.head))
        return
    if started and body is not CANCELLED_STREAM:
        words = runner.end_of(task, body)
        if words:
            push(task, words)
    place.deliver(task.entry, body)


CANCELLED_STREAM = Failure("cancelled", 499, "Request cancelled")


async def steps_async(runner: Runner, task: Task) -> AsyncGenerator[Buffer, None]:
    """Yield the chunks of a task's answer, from asynchronous hooks. Raises what user code raises."""
    fire(runner.events.before_predict)
    live: dict[int, Any] = {}
    outputs = []
    try:
        for index, value in enumerate(task.inputs):
            context = task.contexts[index]
            output = await runner.call_async(runner.predict_hook, value, context, task)
            outputs.append(output)
            live[index] = await runner.call_async(runner.encode_hook, output, context, task)
        fire(runner.events.before_encode)
        if runner.spec is None:
            async for value in each(live[0]):
                yield runner.chunk(value)
        else:
            renderer = begin(runner, task)
            sources = {index: each(encoded) for index, encoded in live.items()}
            while sources:
                for index, source in list(sources.items()):
                    step = await anext(source, END)
                    if step is END:
                        del sources[index]
                        continue
                    body = renderer.step(index, step)
                    if body:
                        yield body
            yield renderer.finish()
    finally:
        for generator in (*live.values(), *outputs):
            await close_async(generator)
    fire(runner.events.after_predict)
    fire(runner.events.after_encode)


async def each(source: Any) -> AsyncIterator[Any]:
    """Go through a generator of either kind; a synchronous one advances in a thread, as it may block."""
    if hasattr(source, "__aiter__"):
        async for value in source:
            yield value
        return
    iterator = iter(source)
    while (value := await in_thread(next, iterator, END)) is not END:
        yield value


async def close_async(generator: Any) -> None:
    """Close a generator of either kind."""
    stop = getattr(generator, "aclose", None)
    if stop is not None:
        await stop()
    else:
        close(generator)
