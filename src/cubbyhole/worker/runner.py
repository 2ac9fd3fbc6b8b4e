# SPDX-License-Identifier: Apache-2.0
"""The only decode -> predict -> encode, sync and async; what user code raises stops here.

Flow:  loop -> Runner.answer(entry) -> Result | Failure                        one request, one answer
       loop -> Runner.decode(entry) -> Task -> Runner.finish(task)             the same in two steps, for streams
       loop -> batches.py, streams.py with the Runner's parts                  batches and streams
Owns:  nothing but what was precomputed from the LitAPI.
See:   worker/task.py, worker/threads.py, worker/hooks.py, worker/reading.py, worker/answers.py

Nothing here returns an exception: a failure is a `Failure`, logged once with its traceback.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from cubbyhole.core.current import set_current
from cubbyhole.core.entries import Failure, RequestMeta, Result
from cubbyhole.worker.answers import chunk_encoder, encode_answer, encode_negotiated
from cubbyhole.worker.failures import failure_of
from cubbyhole.worker.hooks import Events, Hook
from cubbyhole.worker.reading import asked_by, decode_meta, reader_for
from cubbyhole.worker.rooms import Rooms
from cubbyhole.worker.task import Raised, Task
from cubbyhole.worker.threads import in_thread, thread_iterator

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from cubbyhole.api.callbacks import Callback
    from cubbyhole.api.lit_api import LitAPI
    from cubbyhole.core.entries import ClaimedEntry
    from cubbyhole.worker.handed import Memories
    from cubbyhole.worker.reading import ParseForm

logger = logging.getLogger(__name__)


class SyncRunner:
    """Runs the hooks of a synchronous LitAPI, and contains what user code raises."""

    def __init__(
        self,
        lit_api: LitAPI,
        callbacks: list[Callback] | None = None,
        parse_form: ParseForm | str | None = None,
        reserve: Callable[[int], Any] | None = None,
        *,
        handover: bool = False,
    ) -> None:
        self.lit_api = lit_api
        self.spec = lit_api.spec
        self.decode_hook = Hook(lit_api, "decode_request")
        self.predict_hook = Hook(lit_api, "predict")
        self.encode_hook = Hook(lit_api, "encode_response")
        self.format_hook = Hook(lit_api, "format_encoded_response")
        self.events = Events(lit_api, callbacks or [])
        self.read = (
            reader_for(lit_api.decode_request, parse_form, lit_api.body_formats)
            if self.spec is None
            else _spec_reader(self.spec)
        )
        self.chunk = chunk_encoder(None if self.format_hook.skip else self.format_hook.method)
        formats = lit_api.answer_formats
        self.negotiated = formats if formats != ("json",) and self.spec is None else None
        raw = self.spec is None and formats in (("json",), ("raw",))
        self.rooms = Rooms(reserve, with_head=not raw)
        self.memories: Memories | None = None
        if handover and self.spec is None:
            from cubbyhole.worker.handed import Memories  # with numpy

            self.memories = Memories(asked_by(lit_api.decode_request))
        self.answer: Callable[[ClaimedEntry], Result | Failure] = self._answer
        if self._is_plain():
            self.answer = self._plain_answer()

    # Containment.

    def attempt(self, call: Callable[..., Any], *args: Any) -> Any:
        """Call user code; return what it returns, or the `Failure` that stands for what it raised."""
        try:
            return call(*args)
        except Exception as error:  # noqa: BLE001  (logged by contain)
            return self.contain(error)

    def attempt_quietly(self, call: Callable[..., Any], *args: Any) -> Any:
        """As `attempt`, but a failure is `Raised` and not logged: the caller can do something about it."""
        try:
            return call(*args)
        except Exception as error:  # noqa: BLE001  (the caller logs it)
            return Raised(error)

    def contain(self, error: Exception) -> Failure:
        """Make a `Failure` of an exception, and log it if it is nobody's answer to a client."""
        failure = failure_of(error)
        if failure.traceback_text:
            logger.error(
                "request failed: path=%s error=%r",
                self.lit_api.api_path,
                failure.message,
                exc_info=error,
            )
        return failure

    # One request, one answer.

    def _is_plain(self) -> bool:
        hooks = (self.decode_hook, self.predict_hook, self.encode_hook)
        simple = all(hook.plain and not hook.is_async for hook in hooks)
        usual = self.negotiated is None and self.memories is None
        return simple and self.spec is None and self.events.silent and usual

    def _plain_answer(self) -> Callable[[ClaimedEntry], Result | Failure]:
        """The common case without anything that it does not need: 2 us of our own for each request (bench: runner)."""
        read, predict, contain = self.read, self.predict_hook.method, self.contain
        decode = None if self.decode_hook.skip else self.decode_hook.method
        encode = None if self.encode_hook.skip else self.encode_hook.method

        def answer(entry: ClaimedEntry) -> Result | Failure:
            set_current(entry)
            try:
                value = read(entry.body, entry.meta)
                if decode is not None:
                    value = decode(value)
                value = predict(value)
                if encode is not None:
                    value = encode(value)
                return encode_answer(value)
            except Exception as error:  # noqa: BLE001  (logged by contain)
                return contain(error)
            finally:
                set_current(None)

        return answer

    def _answer(self, entry: ClaimedEntry) -> Result | Failure:
        try:
            return self.finish(self.decode(entry))
        finally:
            set_current(None)

    def decode(self, entry: ClaimedEntry) -> Task:
        """Read and decode an entry."""
        fire(self.events.before_decode)
        task = self.decode_silently(entry)
        if task.failure is None:
            fire(self.events.after_decode)
        return task

    def decode_silently(self, entry: ClaimedEntry) -> Task:
        """Read and decode an entry of a batch, for which events are triggered once."""
        set_current(entry)  # the loop takes it back
        task = Task(entry, self.rooms)
        task.failure = self.attempt(self._decode, task)
        return task

    def _decode(self, task: Task) -> None:
        for request in self.open_requests(task):
            task.inputs.append(
                self.decode_hook.call(request, task.contexts[len(task.inputs)], task.cancelled)
            )

    def open_requests(self, task: Task) -> list[Any]:
        """Read the body: the requests of its choices, each with its context."""
        if self.memories is None:
            task.request = self.read(task.entry.body, task.entry.meta)
        else:
            task.request = self.memories.read(task, self.read)
        spec = self.spec
        if spec is None:
            task.contexts.append({})
            return [task.request]
        requests: list[Any] = spec.choices(task.request)
        populate = getattr(spec, "populate_context", None)
        for request in requests:
            context: dict[str, Any] = {}
            if populate is not None:
                populate(context, request)
            task.contexts.append(context)
        return requests

    def finish(self, task: Task) -> Result | Failure:
        """Predict and encode a decoded task that is answered at once."""
        if task.failure is not None:
            return task.failure
        outcome: Result | Failure = self.attempt(self._finish, task)
        return outcome

    def _finish(self, task: Task) -> Result:
        outputs = []
        for value, context in zip(task.inputs, task.contexts, strict=True):
            fire(self.events.before_predict)
            output = self.predict_hook.call(value, context, task.cancelled)
            if not hasattr(output, "__next__"):
                fire(self.events.after_predict)
            outputs.append(self._encode(task, output, context))
        return self.render(task, outputs)

    def _encode(self, task: Task, output: Any, context: Any) -> Any:
        """Run `encode_response` for one output; with a spec, the list of its steps. Raises what user code raises."""
        fire(self.events.before_encode)
        encoded = self.encode_hook.call(output, context, task.cancelled)
        if self.spec is not None:
            encoded = list(encoded) if hasattr(encoded, "__next__") else [encoded]
        if hasattr(output, "__next__"):
            fire(self.events.after_predict)
        fire(self.events.after_encode)
        return encoded

    def render(self, task: Task, outputs: list[Any]) -> Result:
        """Make final bytes of what was encoded for each choice."""
        if self.memories is not None and task.room is not None:
            handed = self.memories.render_for(task.room, outputs[0])
            if handed is not None:
                return self.rooms.settle(handed, None)
        if self.negotiated is not None:
            result = encode_negotiated(outputs[0], task.entry.meta, self.negotiated)
        elif self.spec is None:
            result = encode_answer(outputs[0])
        else:
            result = self.spec.render(task.request, outputs)
        return self.rooms.settle(result, task.room)

    def streams(self, task: Task) -> bool:
        """Whether this task is answered chunk by chunk."""
        if self.spec is None:
            return self.lit_api.stream
        return bool(self.spec.answers_with_stream(task.request))

    def end_of(self, task: Task, failure: Failure) -> bytes:
        """The last words of a stream that failed after it had begun: a spec's error event, else nothing."""
        if task.renderer is None:
            return b""
        words = self.attempt(task.renderer.fail, failure)
        return b"" if isinstance(words, Failure) else words

    def read_only(self, entry: ClaimedEntry) -> Task:
        """Read an entry for a loop of the user's, which decodes by itself."""
        task = Task(entry, self.rooms)
        task.failure = self.attempt(self._read_only, task)
        return task

    def _read_only(self, task: Task) -> None:
        task.inputs = self.open_requests(task)


class Runner(SyncRunner):
    """Runs the hooks of one LitAPI, of either kind."""

    async def attempt_async(self, awaitable: Awaitable[Any]) -> Any:
        """Await user code; return what it returns, or the `Failure` that stands for what it raised."""
        try:
            return await awaitable
        except Exception as error:  # noqa: BLE001  (logged by contain)
            return self.contain(error)

    async def attempt_quietly_async(self, awaitable: Awaitable[Any]) -> Any:
        """As `attempt_async`, but a failure is `Raised` and not logged."""
        try:
            return await awaitable
        except Exception as error:  # noqa: BLE001  (the caller logs it)
            return Raised(error)

    async def answer_async(self, entry: ClaimedEntry) -> Result | Failure:
        """Run an entry whose hooks are coroutines; synchronous ones of the user run in a thread."""
        return await self.finish_async(await self.decode_async(entry))

    async def decode_async(self, entry: ClaimedEntry) -> Task:
        """Read and decode an entry."""
        fire(self.events.before_decode)
        task = await self.decode_silently_async(entry)
        if task.failure is None:
            fire(self.events.after_decode)
        return task

    async def decode_silently_async(self, entry: ClaimedEntry) -> Task:
        """Read and decode an entry of a batch, for which events are triggered once."""
        set_current(entry)  # until the end of the asyncio task
        task = Task(entry, self.rooms)
        task.failure = await self.attempt_async(self._decode_async(task))
        return task

    async def _decode_async(self, task: Task) -> None:
        for request in self.open_requests(task):
            context = task.contexts[len(task.inputs)]
            task.inputs.append(await self.call_async(self.decode_hook, request, context, task))

    async def finish_async(self, task: Task) -> Result | Failure:
        """Predict and encode a decoded task that is answered at once."""
        if task.failure is not None:
            return task.failure
        outcome: Result | Failure = await self.attempt_async(self._finish_async(task))
        return outcome

    async def _finish_async(self, task: Task) -> Result:
        import asyncio  # here, as synchronous workers need not carry its 6 MiB

        choices = zip(task.inputs, task.contexts, strict=True)
        if len(task.inputs) == 1:
            outputs = [await self._finish_choice(task, *choice) for choice in choices]
        else:
            outputs = await asyncio.gather(*(self._finish_choice(task, *c) for c in choices))
        return self.render(task, outputs)

    async def _finish_choice(self, task: Task, value: Any, context: dict[str, Any]) -> Any:
        fire(self.events.before_predict)
        output = await self.call_async(self.predict_hook, value, context, task)
        is_generator = hasattr(output, "__anext__")
        if not is_generator:
            fire(self.events.after_predict)
        encoded = await self.encode_async(task, output, context)
        if is_generator:
            fire(self.events.after_predict)
        return encoded

    async def encode_async(self, task: Task, output: Any, context: Any) -> Any:
        """Run `encode_response` for one output; with a spec, the list of its steps."""
        fire(self.events.before_encode)
        encoded = await self.call_async(self.encode_hook, output, context, task)
        if self.spec is not None:
            if hasattr(encoded, "__anext__"):
                encoded = [step async for step in encoded]
            elif hasattr(encoded, "__next__"):
                encoded = await in_thread(list, encoded)
            else:
                encoded = [encoded]
        fire(self.events.after_encode)
        return encoded

    async def call_async(self, hook: Hook, value: Any, context: Any, task: Task) -> Any:
        """Call a hook of either kind: a synchronous one of the user's runs in a thread, as it may block."""
        if hook.skip:
            return value
        if hook.is_async or hook.is_default:
            result = hook.call(value, context, task.cancelled)
        else:
            if hook.is_generator and hasattr(value, "__anext__"):
                value = thread_iterator(value)
            result = await in_thread(hook.call, value, context, task.cancelled)
        return await result if hasattr(result, "__await__") else result


def fire(event: Callable[[], None] | None) -> None:
    """Trigger an event that somebody may hear."""
    if event is not None:
        event()


def _spec_reader(spec: Any) -> Callable[[Any, bytes], Any]:
    nothing = RequestMeta()
    return lambda body, meta: spec.read_request(body, decode_meta(meta) if meta else nothing)


def run_setup(lit_api: LitAPI, device: str) -> Raised | None:
    """Run `setup`; what it raises, or None."""
    try:
        lit_api.setup(device)
    except Exception as error:  # noqa: BLE001  (main.py logs it)
        return Raised(error)
    return None
