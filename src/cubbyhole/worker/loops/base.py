# SPDX-License-Identifier: Apache-2.0
"""The contract of a loop, and what every loop works with.

A loop claims entries, has them run, and gives each exactly one final outcome. Loops of ours override `serve`; a user's
`LitLoop` overrides LitServe's `run`, for which `custom.py` plays LitServe's queue and transport.

Flow:  main.py -> LitLoop.serve(Workplace) -> Workplace.claim -> runner -> Workplace.deliver | push
Owns:  nothing; the port belongs to main.py.

What a loop must do, and `testing.check_loop` checks:
- Each claimed entry gets exactly one `deliver`, also when user code raises.
- A cancelled or expired entry is not run.
- It waits in `claim` or on the port's descriptor, never in a poll, and beats at least once a second while it turns.
- After `stopping` is set it claims no more, finishes what it has claimed, and returns.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Any

from cubbyhole.core.clock import now_ns
from cubbyhole.core.entries import Chunk, Failure
from cubbyhole.core.errors import ChannelFull, EntryTooLarge, StaleOwner

if TYPE_CHECKING:
    from collections.abc import Callable

    from cubbyhole.api.callbacks import Callback
    from cubbyhole.channels.base import WorkerPort
    from cubbyhole.core.entries import Buffer, ClaimedEntry, Result
    from cubbyhole.core.settings import EndpointSettings
    from cubbyhole.worker.runner import Runner
    from cubbyhole.worker.task import Task

logger = logging.getLogger(__name__)

IDLE_WAIT_S = (
    0.5  # an idle loop wakes so often to beat and to see SIGTERM; 2 wake-ups a second are nothing
)
CREDIT_WAIT_S = (
    0.25  # how long a stream's writer waits for its reader before it looks whether anybody is there
)
ROOM_WAIT_S = 1.0  # how long a finished answer waits for room in the arena before it is given up
ROOM_STEP_S = 0.005
STAGGER = 20  # 5 % each

CANCELLED = Failure("cancelled", 499, "Request cancelled")
EXPIRED = Failure("expired", 504, "Request timed out")


class Workplace:
    """Port, runner and duties of one worker.

    Attributes:
        port: The worker's end of the channel.
        runner: Runs the LitAPI's hooks.
        settings: The endpoint.
        stopping: Set when the worker shall claim no more.
        number: The worker's number within its API.
        callbacks: The user's, for a loop of the user's.
        idle_wait_s: How long a loop may wait before it beats and looks at `stopping`.
        count_batch: To be called with each batch's size, and how long its first request waited for the others, in seconds.
    """

    def __init__(
        self,
        port: WorkerPort,
        runner: Runner,
        settings: EndpointSettings,
        beat: Callable[[], None],
        number: int = 0,
        callbacks: list[Callback] | None = None,
        idle_wait_s: float = IDLE_WAIT_S,
    ) -> None:
        self.port = port
        self.runner = runner
        self.settings = settings
        self.beat = beat
        self.number = number
        self.callbacks = callbacks or []
        self.idle_wait_s = idle_wait_s
        self.stopping = threading.Event()
        after = settings.recycle_after_requests
        # Workers that began together do not end together: each goes on a few per cent longer than the one before.
        self._left = None if after is None else after + number * after // STAGGER
        self._asides: list[threading.Thread] = []
        # Not every channel counts batches, and no loop should have to ask.
        self.count_batch: Callable[[int, float], None] = getattr(port, "count_batch", _do_not_count)

    def claim(self, max_entries: int, wait_s: float) -> list[ClaimedEntry]:
        """Claim and beat."""
        entries = self.port.claim(max_entries, wait_s)
        self.beat()
        if self._left is not None:
            self._left -= len(entries)
            if self._left <= 0 and not self.stopping.is_set():
                logger.info("worker recycles itself: worker=%d", self.number)
                self.stopping.set()
        return entries

    def start_aside(self, work: Callable[..., None], *args: Any) -> None:
        """Do work that waits for a slow client in a thread of its own."""
        thread = threading.Thread(target=work, args=args, daemon=True, name="aside")
        self._asides = [other for other in self._asides if other.is_alive()]
        self._asides.append(thread)
        thread.start()

    def finish_asides(self) -> None:
        """Wait for that work, at the end."""
        for thread in self._asides:
            thread.join()

    def refuses(self, entry: ClaimedEntry) -> bool:
        """Answer an entry that must not be run any more. True if it was one."""
        if entry.cancelled:
            self.deliver(entry, CANCELLED)
            return True
        if entry.deadline_ns <= now_ns():
            self.deliver(entry, EXPIRED)
            return True
        return False

    def deliver(self, entry: ClaimedEntry, outcome: Result | Failure) -> None:
        """Give an entry its final outcome, waiting for room if need be."""
        if not self.try_deliver(entry, outcome):
            give_up_s = time.monotonic() + ROOM_WAIT_S
            while True:
                time.sleep(ROOM_STEP_S)
                if self.try_deliver(entry, outcome):
                    return
                if time.monotonic() > give_up_s:
                    self.give_up(entry)
                    return

    def try_deliver(self, entry: ClaimedEntry, outcome: Result | Failure) -> bool:
        """Give an entry its final outcome. False: there is no room for it now."""
        try:
            self.port.publish(entry, outcome)
        except ChannelFull:
            return False
        except EntryTooLarge as error:
            logger.error("answer does not fit: entry=%d error=%r", entry.id, str(error))  # noqa: TRY400
            text = str(error)
            self.port.publish(
                entry, Failure(error.code, 500, "The answer is too large.", message=text)
            )
        except StaleOwner as error:
            logger.warning("answer came too late: entry=%d error=%r", entry.id, str(error))
        return True

    def give_up(self, entry: ClaimedEntry) -> None:
        """Say that there was no room for an answer for too long: fronts free blocks all the time, but these did not."""
        message = f"no room for the answer after {ROOM_WAIT_S} s; raise arena_bytes"
        logger.error("answer dropped: entry=%d reason=%r", entry.id, message)
        detail = "There is no room for the answer now. Try again."
        failure = Failure(ChannelFull.code, 503, detail, {"Retry-After": "1"}, message)
        try:
            self.port.publish(entry, failure)
        except StaleOwner as error:
            logger.warning("answer came too late: entry=%d error=%r", entry.id, str(error))

    def push(self, task: Task, body: Buffer) -> bool:
        """Publish a chunk, waiting for credit as long as somebody reads. False: stop producing."""
        entry = task.entry
        chunk = Chunk(body, *task.head)
        try:
            while not self.port.publish(entry, chunk, CREDIT_WAIT_S):
                self.beat()
                if entry.cancelled:
                    return False
        except (EntryTooLarge, ChannelFull) as error:
            task.failure = Failure(error.code, error.status, str(error), message=str(error))
            return False
        except StaleOwner:
            return False
        return not entry.cancelled


def _do_not_count(size: int, wait_s: float) -> None:
    del size, wait_s


class LitLoop:
    """Base of all loops, with LitServe's hooks for those that users write.

    A user's loop overrides `run`, which is called again and again, or `__call__`.
    """

    worker_id: int | None = None  # within the API; set in the worker
    first_wait_s = 1.0  # how long `get_batch_requests` waits for its first request

    def pre_setup(self, lit_api: Any, spec: Any = None) -> None:
        """Check that the LitAPI suits the loop; called when the server is made."""

    async def schedule_task(
        self, lit_api: Any, lit_spec: Any, request_queue: Any, transport: Any
    ) -> None:
        """Run beside a `run` that is a coroutine function."""

    def serve(self, place: Workplace) -> None:
        """Serve until `place.stopping` is set: here, by LitServe's `run`."""
        from cubbyhole.worker.loops.custom import serve_custom

        serve_custom(self, place)

    def get_request(
        self, request_queue: Any, block: bool = True, timeout: float | None = None
    ) -> Any:
        """Take a request from the queue, or None."""
        import queue

        try:
            return request_queue.get(block, timeout)
        except queue.Empty:
            return None

    def get_batch_requests(
        self, lit_api: Any, request_queue: Any, transport: Any
    ) -> tuple[list[tuple[Any, Any, Any]], list[Any]]:
        """Take a batch: ((response queue, uid, payload) of each, those that waited too long: none here)."""
        del transport
        batch: list[tuple[Any, Any, Any]] = []
        close_s: float | None = None
        while len(batch) < lit_api.max_batch_size:
            wait_s = None if close_s is None else max(0.0, close_s - time.monotonic())
            request = self.get_request(request_queue, wait_s != 0.0, wait_s or self.first_wait_s)
            if request is None or request[1] is None:
                break
            batch.append((request[0], request[1], request[3]))
            if close_s is None:
                close_s = time.monotonic() + lit_api.batch_timeout
        return batch, []

    def put_response(
        self,
        transport: Any,
        response_queue_id: Any,
        uid: Any,
        response_data: Any,
        status: Any,
        response_type: Any,
    ) -> None:
        """Answer a request, or send a chunk."""
        item = (uid, (response_data, status, response_type, self.worker_id))
        transport.send(item, consumer_id=response_queue_id)

    def put_error_response(
        self, transport: Any, response_queue_id: Any, uid: Any, error: Exception
    ) -> None:
        """Fail a request."""
        item = (uid, (error, "ERROR", "REGULAR", self.worker_id))
        transport.send(item, consumer_id=response_queue_id)

    def populate_context(self, context: Any, request: Any, lit_spec: Any = None) -> None:
        """Fill a request's context by the spec."""
        populate = getattr(lit_spec, "populate_context", None)
        if populate is not None:
            populate(context, request)

    def run(
        self,
        lit_api: Any,
        device: str,
        worker_id: int,
        request_queue: Any,
        transport: Any,
        workers_setup_status: Any,
        callback_runner: Any,
    ) -> Any:
        """Take requests from the queue and send answers; may be a coroutine function."""
        raise NotImplementedError(f"{type(self).__name__} must override run().")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call `run` until the worker stops; an override is called once and has to do that itself."""
        return self.run(*args, **kwargs)


def runs_itself(loop: LitLoop) -> bool:
    """Whether a user wrote the loop by LitServe's `run` or `__call__`, so that `serve` of a class of ours is not meant."""
    kind = type(loop)
    return kind.run is not LitLoop.run or kind.__call__ is not LitLoop.__call__
