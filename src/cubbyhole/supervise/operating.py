# SPDX-License-Identifier: Apache-2.0
"""Do what operators ask, in the supervisor's turn: each is a few microseconds, or the start of something that goes on by itself.

Flow:  admin.py -> **Operator** -> Channel.cancel | Channel.rerank | SignalPipe.stop | Pool.roll | Pool.scale -> Done
Owns:  nothing.
See:   core/operations.py
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cubbyhole.core.operations import Cancel, Done, Drain, Operation, Rerank, Roll, Scale
from cubbyhole.scheduling.policy import DEFAULT_CLASS, LEAST_URGENT, MOST_URGENT, STEP_NS, rank

if TYPE_CHECKING:
    from collections.abc import Callable

    from cubbyhole.channels.base import Channel
    from cubbyhole.core.settings import ServerSettings
    from cubbyhole.core.statistics import EntrySnapshot
    from cubbyhole.supervise.drain import SignalPipe
    from cubbyhole.supervise.pool import Pool


class Operator:
    """What may be asked of one server; call it with an operation."""

    def __init__(
        self, channel: Channel, settings: ServerSettings, pool: Pool, signals: SignalPipe
    ) -> None:
        self._channel = channel
        self._settings = settings
        self._pool = pool
        self._signals = signals
        self._verbs: dict[type[Any], Callable[[Any], Done]] = {
            Cancel: self._cancel,
            Rerank: self._rerank,
            Drain: self._drain,
            Roll: self._roll,
            Scale: self._scale,
        }

    def __call__(self, operation: Operation) -> Done:
        """Do it, or say why not."""
        return self._verbs[type(operation)](operation)

    def _cancel(self, asked: Cancel) -> Done:
        taken_back = self._channel.cancel(asked.id)
        if taken_back is None:
            return _unknown(asked.id)
        if taken_back:
            text = f"Request {asked.id} waited and was taken back; its client has 409."
        else:
            text = (
                f"Request {asked.id} is running: its worker sees `cancelled`, its client has 409."
            )
        return Done(ok=True, text=text, data={"id": asked.id, "was_running": not taken_back})

    def _rerank(self, asked: Rerank) -> Done:
        if not MOST_URGENT <= asked.priority <= LEAST_URGENT:
            text = f"A priority is from {MOST_URGENT} (most urgent) to {LEAST_URGENT}, not {asked.priority}."
            return Done(ok=False, text=text)
        entry = self._find(asked.id)
        # Only who finds nothing asks the channel with any rank: it says whether it could do it at all.
        wanted = 0 if entry is None else self._rank(entry, asked.priority)
        done = self._channel.rerank(asked.id, wanted)
        if done is None:
            return _unknown(asked.id)
        if not done:
            return Done(
                ok=False, text=f"Request {asked.id} does not wait any more: a worker has it."
            )
        text = f"Request {asked.id} has priority {asked.priority} now."
        return Done(ok=True, text=text, data={"id": asked.id, "rank": wanted})

    def _rank(self, entry: EntrySnapshot, priority: int) -> int:
        received_ns = entry.received_ns
        if (
            not self._settings.priorities
        ):  # then all others are ranked by arrival, as if of one class
            received_ns = max(0, received_ns - DEFAULT_CLASS * STEP_NS)
        return rank(received_ns, priority, entry.deadline_ns)

    def _find(self, request_id: int) -> EntrySnapshot | None:
        return next((one for one in self._channel.snapshot() if one.id == request_id), None)

    def _drain(self, _: Drain) -> Done:
        if self._signals.causes:  # once more would mean: now, without waiting for what is under way
            return Done(ok=True, text="Draining already.", data={})
        self._signals.stop("operator")
        in_flight = self._channel.statistics().slots_used
        limit_s = self._settings.drain_timeout_s
        text = f"Draining: {in_flight} requests under way have {limit_s:.0f} s to finish."
        return Done(ok=True, text=text, data={"in_flight": in_flight, "timeout_s": limit_s})

    def _roll(self, _: Roll) -> Done:
        count = self._pool.roll("operator")
        text = f"{count} workers are replaced, one after another."
        return Done(ok=True, text=text, data={"workers": count})

    def _scale(self, asked: Scale) -> Done:
        try:
            path, before, after = self._pool.scale(asked.path, asked.workers)
        except ValueError as error:
            return Done(ok=False, text=str(error))
        how = "as asked" if asked.workers else "and follows the load again"
        text = f"{path} had {before} workers and gets {after}, {how}."
        return Done(ok=True, text=text, data={"path": path, "before": before, "workers": after})


def _unknown(request_id: int) -> Done:
    text = f"No request {request_id} is under way: it is over, or never came."
    return Done(ok=False, text=text, data={"code": "not_found"})
