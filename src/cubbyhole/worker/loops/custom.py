# SPDX-License-Identifier: Apache-2.0
"""Loops that users wrote for LitServe: its request queue and its transport, played over a worker's port.

    request_queue.get(block, timeout) -> (response_queue_id, uid, timestamp, payload)     claims one entry
    transport.send((uid, (data, status, response_type, worker_id)), consumer_id=...)      publishes

Flow:  Workplace.claim -> RequestQueue -> the user's run() -> Transport -> Workplace.deliver | push
Owns:  the entries that the user's code holds, by uid.
"""

from __future__ import annotations

import asyncio
import inspect
import pickle
import queue
import time
from typing import TYPE_CHECKING, Any

from cubbyhole.api.callbacks import CallbackRunner
from cubbyhole.core.entries import Failure, Result
from cubbyhole.worker.loops.base import LitLoop
from cubbyhole.worker.task import Raised

if TYPE_CHECKING:
    from cubbyhole.worker.loops.base import Workplace
    from cubbyhole.worker.task import Task

STOP = (None, None, None, None)  # LitServe's sentinel
NOT_ANSWERED = Failure("predict_failed", message="The loop ended without answering this request.")


class RequestQueue:
    """LitServe's queue of requests: `get` claims."""

    def __init__(self, place: Workplace) -> None:
        self._place = place
        self.held: dict[int, Task] = {}

    def get(self, block: bool = True, timeout: float | None = None) -> tuple[Any, ...]:
        """Take a request: (response_queue_id, uid, timestamp, payload); `STOP` once the worker shall end.

        Raises:
            queue.Empty: there is none, or none came within `timeout` seconds.
        """
        place = self._place
        end_s = None if timeout is None else time.monotonic() + timeout
        while not place.stopping.is_set():
            left_s = place.idle_wait_s if end_s is None else end_s - time.monotonic()
            entries = place.claim(1, min(max(left_s, 0.0), place.idle_wait_s) if block else 0.0)
            for entry in entries:
                task = place.runner.read_only(entry)
                if task.failure is not None:
                    place.deliver(entry, task.failure)
                    continue
                self.held[entry.id] = task
                return 0, entry.id, time.monotonic(), task.request
            if not entries and (not block or (end_s is not None and time.monotonic() >= end_s)):
                raise queue.Empty
        return STOP

    def get_nowait(self) -> tuple[Any, ...]:
        """Take a request that is there already."""
        return self.get(block=False)

    def empty(self) -> bool:
        """Always False: whether there is something is known by claiming it."""
        return False


class Transport:
    """LitServe's way back: `send` publishes."""

    def __init__(self, place: Workplace, requests: RequestQueue) -> None:
        self._place = place
        self._held = requests.held

    def send(self, item: tuple[Any, tuple[Any, ...]], consumer_id: int = 0) -> None:
        """Answer the request `uid` of `(uid, (data, status, response_type[, worker_id]))`.

        A uid that was answered already, or whose client is gone, is let pass.
        """
        del consumer_id
        uid, (data, status, response_type, *_) = item
        task = self._held.get(uid)
        if task is None:
            return
        word = getattr(status, "value", status)
        streams = getattr(response_type, "name", response_type) == "STREAMING"
        if word == "START":
            return
        if word == "ERROR":
            self._end(task, self._failure(data))
        elif word == "FINISH_STREAMING":
            self._end(task, Result(b"", *task.head))
        elif streams:
            self._chunk(task, data)
        elif word == "OK":
            self._end(task, self._place.runner.attempt(self._place.runner.render, task, [data]))

    async def asend(self, item: tuple[Any, tuple[Any, ...]], consumer_id: int = 0) -> None:
        """As `send`, for coroutines."""
        await asyncio.to_thread(self.send, item, consumer_id)

    def fail_held(self, failure: Failure) -> None:
        """Answer whatever the user's code left unanswered."""
        for task in list(self._held.values()):
            self._end(task, failure)

    def _chunk(self, task: Task, data: Any) -> None:
        body = self._place.runner.attempt(self._place.runner.chunk, data)
        if isinstance(body, Failure):
            self._end(task, body)
        elif not self._place.push(task, body):
            self._end(task, task.failure or Failure("cancelled", 499, "Request cancelled"))

    def _end(self, task: Task, outcome: Result | Failure) -> None:
        del self._held[task.entry.id]
        self._place.deliver(task.entry, outcome)

    def _failure(self, data: Any) -> Failure:
        if isinstance(
            data, bytes
        ):  # LitServe's `dump_exception`; made by this process, so unpickling trusts nobody
            data = pickle.loads(data)  # noqa: S301
        error = data if isinstance(data, Exception) else RuntimeError(str(data))
        return self._place.runner.contain(error)


def serve_custom(loop: LitLoop, place: Workplace) -> None:
    """Call a user's `run` again and again, or its `__call__` once."""
    requests = RequestQueue(place)
    transport = Transport(place, requests)
    lit_api = place.runner.lit_api
    callbacks = CallbackRunner(place.callbacks)
    arguments: tuple[Any, ...] = (
        lit_api,
        lit_api.device,
        place.number,
        requests,
        transport,
        {},
        callbacks,
    )
    loop.worker_id = place.number
    own_call = type(loop).__call__ is not LitLoop.__call__
    call = loop if own_call else loop.run
    if inspect.iscoroutinefunction(call if not own_call else type(loop).__call__):
        asyncio.run(_serve_async(loop, place, call, arguments, transport))
        return
    while not place.stopping.is_set():
        raised = place.runner.attempt_quietly(call, *arguments)
        _look_at(raised, place, transport, ended=own_call)
        if own_call:
            return


async def _serve_async(
    loop: LitLoop, place: Workplace, call: Any, arguments: tuple[Any, ...], transport: Transport
) -> None:
    lit_api, _, _, requests, *_ = arguments
    scheduled = asyncio.create_task(loop.schedule_task(lit_api, lit_api.spec, requests, transport))
    while not place.stopping.is_set():
        raised = await place.runner.attempt_quietly_async(call(*arguments))
        _look_at(raised, place, transport, ended=False)
        await asyncio.sleep(0)
    scheduled.cancel()


def _look_at(raised: Any, place: Workplace, transport: Transport, ended: bool) -> None:
    if isinstance(raised, Raised):
        transport.fail_held(place.runner.contain(raised.error))
    elif ended:
        transport.fail_held(NOT_ANSWERED)
