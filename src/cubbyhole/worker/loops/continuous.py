# SPDX-License-Identifier: Apache-2.0
"""Continuous batching: requests join and leave a running batch between two steps of the model.

    admit (while the LitAPI has capacity) -> step -> emit (a chunk for each output) -> admit ...

A LitAPI has `add_request(uid, request)`, `has_capacity()`, `has_active_requests()` and `step(previous outputs) -> list[Output]`;
or, simpler, `predict(inputs, generated)` giving one token for each input and `has_finished(uid, token, max_sequence_length)`.
If it has `remove_request(uid)`, it hears of requests whose client is gone; else their outputs are dropped.

Flow:  Workplace.claim -> Runner.decode -> LitAPI.add_request; LitAPI.step -> encode_response -> TaskStream -> publish
Owns:  which uid belongs to which entry.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from cubbyhole.api.lit_api import LitAPI, overrides
from cubbyhole.core.current import set_current
from cubbyhole.core.entries import Failure
from cubbyhole.worker.loops.base import CANCELLED, LitLoop
from cubbyhole.worker.loops.outputs import LitAPIStatus, Output
from cubbyhole.worker.shared_streams import BACKLOG_BYTES, SLOW, TaskStream
from cubbyhole.worker.task import Raised

if TYPE_CHECKING:
    from cubbyhole.core.entries import ClaimedEntry, Result
    from cubbyhole.worker.loops.base import Workplace

logger = logging.getLogger(__name__)

FAILED = Failure("predict_failed", message="step() gave an Output with status ERROR")


class ContinuousBatchingLoop(LitLoop):
    """LitServe's loop for language models that batch by themselves.

    Args:
        max_sequence_length: Given to `has_finished`.
        no_pending_requests: LitServe's; without effect, as nothing is polled here.
        sleep_delay: Seconds to wait after a step that gave nothing.
    """

    def __init__(
        self,
        max_sequence_length: int = 2048,
        no_pending_requests: bool = False,
        sleep_delay: float = 0.001,
    ) -> None:
        self.max_sequence_length = max_sequence_length
        self.no_pending_requests = no_pending_requests
        self.sleep_delay = sleep_delay

    def pre_setup(self, lit_api: Any, spec: Any = None) -> None:
        """Check that the LitAPI can do it.

        Raises:
            ValueError: it does not stream, or methods are missing.
        """
        del spec
        if not lit_api.stream:
            raise ValueError(
                "Continuous batching loop requires streaming to be enabled. "
                "Please set LitServe(..., stream=True)"
            )
        wanted = _STEPPING if hasattr(lit_api, "step") else _PREDICTING
        missing = [name for name in wanted if not _has(lit_api, name)]
        if missing:
            raise ValueError(
                f"Continuous batching needs {', '.join(missing)} in {type(lit_api).__name__}. Implement "
                f"{', '.join(_STEPPING)}, or {', '.join(_PREDICTING)}."
            )

    def serve(self, place: Workplace) -> None:
        """Serve until told to stop, then step what is under way to its end."""
        engine: Any = place.runner.lit_api
        if not hasattr(engine, "step"):
            engine = _Predictor(place.runner.lit_api, self.max_sequence_length)
        _Ward(place, engine, self.sleep_delay).serve()


_STEPPING = ("add_request", "step", "has_capacity", "has_active_requests")
_PREDICTING = ("predict", "has_finished")


def _has(lit_api: Any, name: str) -> bool:
    return hasattr(lit_api, name) and (not hasattr(LitAPI, name) or overrides(lit_api, name))


class _Ward:
    """The requests under way."""

    def __init__(self, place: Workplace, engine: Any, sleep_s: float) -> None:
        self._place = place
        self._runner = place.runner
        self._engine = engine
        self._sleep_s = sleep_s
        self._streams: dict[str, tuple[TaskStream, int]] = {}  # by uid: with the choice
        self._previous: list[Output] | None = None

    def serve(self) -> None:
        while self._streams or not self._place.stopping.is_set():
            if not self._place.stopping.is_set():
                self._admit()
            if self._streams:
                self._step()

    def _admit(self) -> None:
        while not self._streams or self._engine_has_capacity():
            entries = self._place.claim(1, 0.0 if self._streams else self._place.idle_wait_s)
            if not entries:
                return
            for entry in entries:
                self._add(entry)
                set_current(None)

    def _engine_has_capacity(self) -> bool:
        answer = self._runner.attempt(self._engine.has_capacity)
        return answer is True or (bool(answer) and not isinstance(answer, Failure))

    def _add(self, entry: ClaimedEntry) -> None:
        if self._place.refuses(entry):
            return
        task = self._runner.decode(entry)
        if task.failure is not None:
            self._place.deliver(entry, task.failure)
            return
        stream = TaskStream(self._place, task)
        for choice, value in enumerate(task.inputs):
            uid = str(entry.id) if len(task.inputs) == 1 else f"{entry.id}.{choice}"
            failure = self._runner.attempt(self._engine.add_request, uid, value)
            if isinstance(failure, Failure):
                self._end(stream, failure)
                return
            self._streams[uid] = (stream, choice)

    def _step(self) -> None:
        under_way = {id(stream): stream.task.entry for stream, _ in self._streams.values()}
        set_current(tuple(under_way.values()))
        outputs = self._runner.attempt_quietly(self._engine.step, self._previous)
        set_current(None)
        self._place.beat()
        if isinstance(outputs, Raised):
            self._previous = None
            failure = self._runner.contain(outputs.error)
            for stream in {id(stream): stream for stream, _ in self._streams.values()}.values():
                self._end(stream, failure)
            return
        self._previous = outputs
        for output in outputs:
            self._emit(output)
        for stream, _ in list(self._streams.values()):
            if stream.task.entry.cancelled:
                self._end(stream, CANCELLED)
            elif not stream.flush() and stream.backlog_bytes > BACKLOG_BYTES:
                self._end(stream, SLOW)
        if not outputs:
            time.sleep(self._sleep_s)

    def _emit(self, output: Output) -> None:
        stream, choice = self._streams.get(output.uid, (None, 0))
        if stream is None:
            return  # its client is gone
        status = getattr(output.status, "value", output.status)
        if status == LitAPIStatus.ERROR:
            error = output.output if isinstance(output.output, Exception) else None
            self._end(stream, FAILED if error is None else self._runner.contain(error))
            return
        if output.output is not None and output.output != "":
            failure = self._runner.attempt(self._encode, stream, choice, output.output)
            if isinstance(failure, Failure):
                self._end(stream, failure)
                return
        if status == LitAPIStatus.FINISH_STREAMING:
            del self._streams[output.uid]
            if not any(other is stream for other, _ in self._streams.values()):
                self._end(stream, None)

    def _encode(self, stream: TaskStream, choice: int, value: Any) -> None:
        hook, task = self._runner.encode_hook, stream.task
        encode_step = getattr(self._runner.spec, "encode_step", None)
        if hook.is_default and encode_step is not None:
            stream.add(choice, encode_step(value))
            return
        encoded = hook.call(value, task.contexts[choice], task.cancelled)
        for part in encoded if hasattr(encoded, "__next__") else (encoded,):
            stream.add(choice, part)

    def _end(self, stream: TaskStream, outcome: Result | Failure | None) -> None:
        gone = [uid for uid, (other, _) in self._streams.items() if other is stream]
        remove = getattr(self._engine, "remove_request", None)
        for uid in gone:
            del self._streams[uid]
            if remove is not None:
                self._runner.attempt(remove, uid)
        stream.close(outcome)


class _Predictor:
    """`predict(inputs, generated)` and `has_finished` as an engine with `step`."""

    def __init__(self, lit_api: Any, max_sequence_length: int) -> None:
        self._lit_api = lit_api
        self._max_sequence_length = max_sequence_length
        self._inputs: dict[str, Any] = {}
        self._generated: dict[str, list[Any]] = {}

    def add_request(self, uid: str, request: Any) -> None:
        self._inputs[uid] = request
        self._generated[uid] = []

    def remove_request(self, uid: str) -> None:
        self._inputs.pop(uid, None)
        self._generated.pop(uid, None)

    def has_capacity(self) -> bool:
        return len(self._inputs) < int(self._lit_api.max_batch_size)

    def step(self, _previous: list[Output] | None) -> list[Output]:
        uids = list(self._inputs)
        try:
            tokens = self._lit_api.predict(
                list(self._inputs.values()), list(self._generated.values())
            )
        except BaseException:  # goes on
            for uid in uids:  # the batch has failed as a whole: nothing of it may come again
                self.remove_request(uid)
            raise
        outputs = []
        for uid, token in zip(uids, tokens, strict=True):
            self._generated[uid].append(token)
            outputs.append(Output(uid, token))
            if self._lit_api.has_finished(uid, token, self._max_sequence_length):
                self.remove_request(uid)
                outputs.append(Output(uid, None, LitAPIStatus.FINISH_STREAMING))
        return outputs
