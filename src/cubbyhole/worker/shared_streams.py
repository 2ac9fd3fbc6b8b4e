# SPDX-License-Identifier: Apache-2.0
"""Streams that one generator feeds: a batch's, or those of continuous batching.

A slow client must not hold up the others, so what it does not read is kept for it, up to `BACKLOG_BYTES`. Then the
generator waits, as memory is bounded, but only while the client reads at all: one that takes nothing for `STUCK_S` is
failed. What is left at the end is passed on by a thread of its own.

Flow:  loops/streaming.py, loops/concurrent.py, loops/continuous.py -> **TaskStream** -> WorkerPort.publish
Owns:  the backlogs.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Any

from cubbyhole.core.entries import Chunk, Failure, Result
from cubbyhole.core.errors import ChannelError
from cubbyhole.worker.answers import flat_buffer
from cubbyhole.worker.loops.base import CANCELLED, CREDIT_WAIT_S
from cubbyhole.worker.streams import begin

if TYPE_CHECKING:
    from cubbyhole.worker.batches import Batch
    from cubbyhole.worker.loops.base import Workplace
    from cubbyhole.worker.task import Task

BACKLOG_BYTES = 1 << 20  # kept for one client; a language model needs hours for so much
PARCEL_BYTES = 1 << 15  # small chunks of a backlog travel together, up to this
STUCK_S = 2.0  # a client that reads nothing for so long, with a full backlog, is given up
LOOK_S = 0.02  # how long to wait for one slow client before looking after the others

SLOW = Failure("slow_client", 503, "The client reads too slowly.", message="its backlog is full")


class TaskStream:
    """One task among others: its renderer or its gathered steps, and its backlog."""

    def __init__(self, place: Workplace, task: Task) -> None:
        self.place = place
        self.task = task
        self.runner = place.runner
        self.renders = self.runner.spec is not None
        self.streams = self.runner.streams(task)
        self.gathered: list[list[Any]] = [[] for _ in task.inputs]
        self.backlog: deque[bytes] = deque()
        self.backlog_bytes = 0
        self._parcel = b""  # the part of the backlog that goes next
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
        chunk = Chunk(body, *self.task.head)
        if not self.backlog_bytes and self.place.port.publish(self.task.entry, chunk):
            return
        kept = bytes(flat_buffer(body))
        self.backlog.append(kept)
        self.backlog_bytes += len(kept)

    def flush(self, wait_s: float = 0.0) -> bool:
        """Send what the client has room for. False: some is left."""
        while self.backlog_bytes:
            if not self._parcel:
                self._parcel = self._pack()
            chunk = Chunk(self._parcel, *self.task.head)
            if not self.place.port.publish(self.task.entry, chunk, wait_s):
                return False
            self.backlog_bytes -= len(self._parcel)
            self._parcel = b""
        return True

    def _pack(self) -> bytes:
        parcel = [self.backlog.popleft()]
        size_bytes = len(parcel[0])
        while self.backlog and size_bytes + len(self.backlog[0]) <= PARCEL_BYTES:
            size_bytes += len(self.backlog[0])
            parcel.append(self.backlog.popleft())
        return b"".join(parcel)

    def drop(self) -> None:
        """Forget the backlog."""
        self.backlog.clear()
        self.backlog_bytes = 0
        self._parcel = b""

    def close(self, outcome: Result | Failure | None = None) -> None:
        """Say how it ended (None: by itself), and deliver; in a thread if the client is slow."""
        if outcome is None:
            outcome = self.runner.attempt(self._finish)
        elif outcome is CANCELLED or outcome is SLOW:
            self.drop()
        self.outcome = outcome
        if isinstance(outcome, Failure) and self.task.renderer is not None:
            self.runner.attempt(self.queue, self.runner.end_of(self.task, outcome))
        if outcome is CANCELLED or outcome is SLOW or self.flush():
            self.drop()
            self.place.deliver(self.task.entry, self.outcome or CANCELLED)
        else:
            self.place.start_aside(self._settle)

    def _finish(self) -> Result:
        if not self.streams:
            return self.runner.render(self.task, self.gathered)
        if self.renders:
            if self.task.renderer is None:
                begin(self.runner, self.task)
            self.queue(self.task.renderer.finish())
        return Result(b"", *self.task.head)

    def _settle(self) -> None:
        """Send what is left and the outcome, however slowly the client reads."""
        try:
            while not self.task.entry.cancelled and not self.flush(CREDIT_WAIT_S):
                pass
            self.place.deliver(self.task.entry, self.outcome or CANCELLED)
        except ChannelError:
            return  # the channel went away under the last words; the main thread sees it, too


class BatchStreams:
    """The streams of one batch.

    Attributes:
        open: Those that still get chunks, by the id of their task.
    """

    def __init__(self, place: Workplace, batch: Batch) -> None:
        self._place = place
        self._batch = batch
        self.open = {id(task): TaskStream(place, task) for task in batch.tasks}
        self._stuck_since_s = 0.0

    def push(self, step: list[Any]) -> None:
        """Send each place its value of a step; None sends nothing, an exception fails its task."""
        for (task, choice), value in zip(self._batch.places, step, strict=True):
            stream = self.open.get(id(task))
            if stream is None:
                continue
            if task.entry.cancelled:
                self._end(stream, CANCELLED)
            elif isinstance(value, Exception):
                self._end(stream, self._batch.runner.contain(value))
            elif value is not None:
                failure = self._batch.runner.attempt(stream.add, choice, value)
                if failure is not None:
                    self._end(stream, failure)

    def is_stuck(self) -> bool:
        """Pass backlogs on; whether the generator has to wait, as one is full."""
        full = None
        moved = False
        for stream in list(self.open.values()):
            if not stream.backlog_bytes:
                continue
            before = stream.backlog_bytes
            if stream.task.entry.cancelled:
                self._end(stream, CANCELLED)
            elif not stream.flush() and stream.backlog_bytes > BACKLOG_BYTES:
                full = stream
                moved = moved or stream.backlog_bytes < before
        if full is None:
            self._stuck_since_s = 0.0
            return False
        now_s = time.monotonic()
        if moved or not self._stuck_since_s:
            self._stuck_since_s = now_s
        elif now_s - self._stuck_since_s > STUCK_S:
            self._end(full, SLOW)
            self._stuck_since_s = 0.0
        return True

    def wait(self) -> None:
        """Wait a little for the slowest client."""
        self._place.beat()
        slowest = max(self.open.values(), key=lambda s: s.backlog_bytes, default=None)
        if slowest is not None:
            slowest.flush(LOOK_S)

    def _end(self, stream: TaskStream, outcome: Result | Failure | None) -> None:
        del self.open[id(stream.task)]
        stream.close(outcome)

    def end(self) -> None:
        """The generator is through."""
        for stream in list(self.open.values()):
            self._end(stream, None)

    def fail_all(self, failure: Failure) -> None:
        """The generator raised."""
        for stream in list(self.open.values()):
            self._end(stream, failure)
