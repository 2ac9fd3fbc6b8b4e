# SPDX-License-Identifier: Apache-2.0
"""A batch: decoded tasks that one `predict` takes together, and how one bad item fails alone.

Flow:  loops/batched.py, loops/streaming.py, loops/concurrent.py -> **batches.py** -> runner.py
Owns:  its tasks until each has its outcome.

A spec's request for several choices takes several places in the batch.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from cubbyhole.core.current import set_current
from cubbyhole.core.entries import Failure
from cubbyhole.core.errors import BatchSizeMismatch
from cubbyhole.worker.runner import fire
from cubbyhole.worker.task import Raised

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cubbyhole.core.entries import Result
    from cubbyhole.worker.runner import Runner
    from cubbyhole.worker.task import Task

logger = logging.getLogger(__name__)


class Batch:
    """Tasks that run together.

    Attributes:
        tasks: All of them, also those that failed to decode.
        places: For each input of predict its task and choice.
        inputs, contexts: What predict gets, in the order of `places`.
        outputs: What predict gave for each place; an exception or `Failure` fails that place's task only.
    """

    def __init__(self, runner: Runner, tasks: Iterable[Task]) -> None:
        self.runner = runner
        self.tasks = list(tasks)
        self.places: list[tuple[Task, int]] = []
        self.inputs: list[Any] = []
        self.contexts: list[dict[str, Any]] = []
        self.outputs: list[Any] = []
        self.arrange()

    def arrange(self) -> None:
        """Give places to the tasks that can go on."""
        going = [task for task in self.tasks if task.failure is None]
        self.places = [(task, choice) for task in going for choice in range(len(task.inputs))]
        self.inputs = [task.inputs[choice] for task, choice in self.places]
        self.contexts = [task.contexts[choice] for task, choice in self.places]

    def become_current(self) -> None:
        """From now on user code works for all of it."""
        set_current(tuple({id(task): task.entry for task, _ in self.places}.values()))

    def cancelled(self) -> bool:
        """Whether nobody waits for any of it."""
        return all(task.entry.cancelled for task, _ in self.places)

    def deadline_ns(self) -> int:
        """When the first of its answers is too late."""
        return min(task.entry.deadline_ns for task, _ in self.places)

    def predict(self) -> None:
        """Fill `outputs`; if predict raises for the batch, by running each place alone."""
        if not self.places:
            return
        self.become_current()
        runner = self.runner
        fire(runner.events.before_predict)
        outputs = runner.attempt_quietly(self._predict, self.inputs, self.contexts, self.cancelled)
        if isinstance(outputs, Raised):
            outputs = self._one_by_one(outputs)
        self.outputs = outputs
        fire(runner.events.after_predict)

    def _predict(self, inputs: list[Any], contexts: list[Any], cancelled: Any) -> list[Any]:
        lit_api = self.runner.lit_api
        output = self.runner.predict_hook.call(lit_api.batch(inputs), contexts, cancelled)
        return part(lit_api.unbatch(output), len(inputs))

    def _one_by_one(self, raised: Raised) -> list[Any]:
        runner = self.runner
        alone = self.fails_whole(raised)
        if alone is not None:
            return alone
        outputs = []
        for (task, _), value, context in zip(self.places, self.inputs, self.contexts, strict=True):
            if task.entry.cancelled:
                outputs.append(Failure("cancelled", 499, "Request cancelled"))
                continue
            set_current(task.entry)
            output = runner.attempt(self._predict, [value], [context], task.cancelled)
            outputs.append(output if isinstance(output, Failure) else output[0])
        return outputs

    def fails_whole(self, raised: Raised) -> list[Any] | None:
        """The same failure for all if running places alone cannot help; else None, and the log says so."""
        if isinstance(raised.error, BatchSizeMismatch) or len(self.places) == 1:
            failure = self.runner.contain(raised.error)
            return [failure] * len(self.places)
        logger.warning(
            "batch failed, its items run one by one: path=%s size=%d error=%r",
            self.runner.lit_api.api_path,
            len(self.places),
            f"{type(raised.error).__name__}: {raised.error}",
        )
        return None

    async def predict_async(self) -> None:
        """Fill `outputs` from an asynchronous predict."""
        if not self.places:
            return
        self.become_current()
        runner = self.runner
        fire(runner.events.before_predict)
        whole = self._predict_async(self.inputs, self.contexts)
        outputs = await runner.attempt_quietly_async(whole)
        if isinstance(outputs, Raised):
            raised, outputs = outputs, self.fails_whole(outputs)
            if outputs is None:
                outputs = []
                for (task, _), value, context in zip(
                    self.places, self.inputs, self.contexts, strict=True
                ):
                    set_current(task.entry)
                    alone = await runner.attempt_async(self._predict_async([value], [context]))
                    outputs.append(alone if isinstance(alone, Failure) else alone[0])
            del raised
        self.outputs = outputs
        fire(runner.events.after_predict)

    async def _predict_async(self, inputs: list[Any], contexts: list[Any]) -> list[Any]:
        lit_api = self.runner.lit_api
        hook = self.runner.predict_hook
        output = await hook.call(lit_api.batch(inputs), contexts, self.cancelled)
        unbatched = lit_api.unbatch(output)
        if hasattr(unbatched, "__await__"):
            unbatched = await unbatched
        return part(unbatched, len(inputs))

    def by_task(self) -> list[tuple[Task, list[tuple[Any, dict[str, Any]]]]]:
        """Each task with the outputs and contexts of its choices; empty for tasks that failed before."""
        found: dict[int, list[tuple[Any, dict[str, Any]]]] = {id(task): [] for task in self.tasks}
        for (task, _), output, context in zip(
            self.places, self.outputs, self.contexts, strict=True
        ):
            found[id(task)].append((output, context))
        return [(task, found[id(task)]) for task in self.tasks]

    def encode(self, task: Task, outputs: list[tuple[Any, dict[str, Any]]]) -> Result | Failure:
        """Make a task's answer."""
        set_current(task.entry)
        failure = self.failure_among(task, outputs)
        if failure is not None:
            return failure
        answer: Result | Failure = self.runner.attempt(self._encode, task, outputs)
        return answer

    def failure_among(self, task: Task, outputs: list[tuple[Any, Any]]) -> Failure | None:
        """A task's failure, before or in predict; an exception instance among the outputs is one, too."""
        if task.failure is not None:
            return task.failure
        for output, _ in outputs:
            if isinstance(output, Failure):
                return output
            if isinstance(output, Exception):
                return self.runner.contain(output)
        return None

    def _encode(self, task: Task, outputs: list[tuple[Any, dict[str, Any]]]) -> Result:
        hook, spec = self.runner.encode_hook, self.runner.spec
        encoded = []
        for output, context in outputs:
            value = hook.call(output, context, task.cancelled)
            if spec is not None:
                value = list(value) if hasattr(value, "__next__") else [value]
            encoded.append(value)
        return self.runner.render(task, encoded)

    async def encode_async(self, task: Task, outputs: list[tuple[Any, Any]]) -> Result | Failure:
        """Make a task's answer with an encode_response of either kind."""
        set_current(task.entry)
        failure = self.failure_among(task, outputs)
        if failure is not None:
            return failure
        answer: Result | Failure = await self.runner.attempt_async(
            self._encode_async(task, outputs)
        )
        return answer

    async def _encode_async(self, task: Task, outputs: list[tuple[Any, Any]]) -> Result:
        runner = self.runner
        encoded = [await runner.encode_async(task, output, context) for output, context in outputs]
        return runner.render(task, encoded)


def part(unbatched: Any, size: int) -> list[Any]:
    """Check that there is one output for each input.

    Raises:
        BatchSizeMismatch: there is not.
    """
    outputs = unbatched if isinstance(unbatched, list) else list(unbatched)
    if len(outputs) != size:
        raise BatchSizeMismatch(
            f"unbatch() gave {len(outputs)} outputs for {size} inputs. Return one output for each input, in their order."
        )
    return outputs
