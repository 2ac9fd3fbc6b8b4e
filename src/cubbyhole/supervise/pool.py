# SPDX-License-Identifier: Apache-2.0
"""Wanted and actual processes: start, wait, reclaim what the dead held, start again.

Flow:  wiring.py builds one Place per process -> Pool.start -> Pool.turn, again and again -> drain.py retires them
Owns:  the children. Entries are the channel's, states the roster's; nothing here must survive the supervisor.

A death is seen by its descriptor, not by a poll, and what it held is reclaimed before anything else is done: the clients
of a killed worker have their 503 before the log line is written.
"""

from __future__ import annotations

import logging
import signal
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from cubbyhole.core.clock import now_ns
from cubbyhole.core.errors import WorkerDied, WorkerError, WorkerFailedToStart
from cubbyhole.core.roster import ProcessState
from cubbyhole.supervise.health import StallWatch
from cubbyhole.supervise.process import reap_strangers
from cubbyhole.supervise.restarts import RestartPolicy
from cubbyhole.supervise.rolling import Rolling

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from cubbyhole.channels.base import Channel, Role
    from cubbyhole.core.roster import Roster
    from cubbyhole.supervise.process import Child

logger = logging.getLogger(__name__)

TURN_S = 1.0  # with nothing to do: once a second for the stall watch, < 0.1 % of a core
STARTING_TURN_S = (
    0.01  # while somebody starts, for its READY in the roster: a plain word, it has no bell
)
PATIENT_TURN_S = 0.1  # the same when it takes long (a model that loads for minutes)
PATIENT_AFTER_NS = 5_000_000_000
REMIND_NS = 30_000_000_000


class Ear(Protocol):
    """Somebody else who has descriptors to wait for, and something to do at each turn that must not wait."""

    def descriptors(self) -> list[int]:
        """What to wait for."""
        ...

    def turn(self) -> None:
        """Do what there is to do."""


class Place(msgspec.Struct, kw_only=True):
    """One process that should be there.

    Attributes:
        role, index: As the channel counts them.
        cell: In the roster.
        start: Starts the process; called again after each death.
        label: For the log, e.g. "endpoint=/predict device=cuda:0".
    """

    role: Role
    index: int
    cell: int
    start: Callable[[], Child]
    label: str = ""
    policy: RestartPolicy = msgspec.field(default_factory=RestartPolicy)
    wanted: bool = True
    child: Child | None = None
    due_ns: int | None = None  # when to start (again); None: not scheduled
    was_ready: bool = False
    last_reason: str = ""


class Pool:
    """All children of the supervisor. One thread uses it."""

    def __init__(
        self,
        places: list[Place],
        channel: Channel,
        roster: Roster,
        *,
        restart_workers: bool = True,
        execution_timeout_s: float = float("inf"),
        recycle_above_bytes: int | None = None,
    ) -> None:
        self.failure: WorkerError | None = None  # set once: the server must end
        self._places = places
        self._channel = channel
        self._roster = roster
        self._restart_workers = restart_workers
        self._settled = False
        self._stalls = StallWatch(channel, roster, execution_timeout_s)
        self._rolling = Rolling(recycle_above_bytes)
        self._reminded_ns = now_ns()
        self._ears: list[Ear] = []

    def attend(self, ear: Ear) -> None:
        """Wait for something on its descriptors too, and call its `turn` at each turn."""
        self._ears.append(ear)

    def start(self, role: Role) -> None:
        """Start every process of a role."""
        for place in self._of(role):
            self._start(place)

    def settle(self) -> None:
        """From now on the dead are started again: the start-up phase, in which they are not, is over."""
        self._settled = True
        for place in self._places:
            if place.wanted and place.child is None and place.last_reason:
                self._schedule(place, now_ns(), failed_entries=0, pid=0)

    def turn(self, extra: Iterable[int] = (), at_most_s: float = TURN_S) -> None:
        """Wait for a death, for something on the descriptors `extra`, or for the next duty; then do what is due."""
        children: dict[object, Place] = {p.child.fileno(): p for p in self._places if p.child}
        waited: list[Any] = [*children, *extra]
        for ear in self._ears:
            waited += ear.descriptors()
        for fd in wait(waited, timeout=min(at_most_s, self._pause_s())):
            place = children.get(fd)
            if place is not None:
                self._bury(place)
        for ear in self._ears:
            ear.turn()
        reap_strangers([place.child.pid for place in self._places if place.child])
        self._note_ready()
        self._end_stalled()
        now = now_ns()
        if self._settled:
            self._rolling.turn(self._of("worker"), now)
        for place in self._places:
            if place.due_ns is not None and place.due_ns <= now:
                self._start(place)

    def roll(self, cause: str) -> None:
        """Replace all workers, one after another: each finishes what it has, and the next one waits until its successor is ready."""
        self._rolling.add(self._of("worker"), cause)

    def retire(self, role: Role) -> None:
        """These are not wanted any more: no restarts, and SIGTERM to those that live."""
        for place in self._of(role):
            place.wanted = False
            place.due_ns = None
            if place.child is not None:
                place.child.signal(signal.SIGTERM)

    def kill(self, role: Role) -> None:
        """SIGKILL to those that live; `turn` buries them."""
        for place in self._of(role):
            if place.child is not None:
                logger.warning("%s killed: %s=%d pid=%d", role, role, place.index, place.child.pid)
                place.child.signal(signal.SIGKILL)

    def end(self) -> None:
        """Kill whatever lives and wait for it; after an orderly drain there is nothing."""
        roles: tuple[Role, ...] = ("front", "worker")
        for role in roles:
            self.retire(role)
            self.kill(role)
            while self.alive(role):
                self.turn()

    def alive(self, role: Role) -> int:
        """Return how many processes of a role live."""
        return sum(place.child is not None for place in self._of(role))

    def any_ready(self) -> bool:
        """Return whether at least one worker is ready."""
        return any(place.was_ready and place.child for place in self._of("worker"))

    def failed_starts(self) -> list[str]:
        """Return one line for each worker that ended and is not scheduled to start again."""
        return [
            f"worker {place.index} ({place.label}) ended with {place.last_reason}"
            for place in self._of("worker")
            if place.child is None and place.due_ns is None and place.last_reason
        ]

    def _of(self, role: Role) -> list[Place]:
        return [place for place in self._places if place.role == role]

    def _start(self, place: Place) -> None:
        place.due_ns = None
        place.was_ready = False
        self._roster.set_state(place.cell, ProcessState.STARTING)
        self._roster.beat(place.cell, now_ns())
        try:
            place.child = place.start()
        except OSError as error:  # no memory, processes or descriptors left: that may pass
            place.last_reason = f"not_started:{error.strerror}"
            self._roster.set_state(place.cell, ProcessState.ERROR)
            if self._settled:
                self._schedule(place, now_ns(), failed_entries=0, pid=0)
            return
        self._roster.set_pid(place.cell, place.child.pid)
        logger.debug(
            "%s started: %s=%d pid=%d %s",
            place.role,
            place.role,
            place.index,
            place.child.pid,
            place.label,
        )

    def _bury(self, place: Place) -> None:
        child = place.child
        if child is None:
            return
        failed = self._channel.reclaim(place.role, place.index)  # first of all: clients wait
        now = now_ns()
        finished = self._roster.state(place.cell) == ProcessState.FINISHED
        self._roster.set_state(
            place.cell, ProcessState.ERROR if place.wanted else ProcessState.FINISHED
        )
        self._roster.set_pid(place.cell, 0)
        self._roster.set_active(place.cell, 0)
        place.last_reason = child.reap() or "unknown"
        place.child = None
        if not place.wanted:
            logger.debug(
                "%s ended: %s=%d pid=%d reason=%s failed_entries=%d",
                place.role,
                place.role,
                place.index,
                child.pid,
                place.last_reason,
                failed,
            )
            return
        if finished and place.role == "worker" and place.last_reason == "exit:0":
            place.due_ns = now  # an orderly end is no failure: no back-off, no budget
            self._roster.count_restart(place.cell)
            logger.info("worker recycled: worker=%d pid=%d %s", place.index, child.pid, place.label)
            return
        if not self._settled:
            logger.error(
                "%s failed to start: %s=%d pid=%d reason=%s %s",
                place.role,
                place.role,
                place.index,
                child.pid,
                place.last_reason,
                place.label,
            )
            return
        self._schedule(place, now, failed_entries=failed, pid=child.pid)

    def _schedule(self, place: Place, died_ns: int, *, failed_entries: int, pid: int) -> None:
        if place.role == "worker" and not self._restart_workers:
            self._fail(
                WorkerDied(
                    f"Worker {place.index} ({place.label}, pid {pid}) ended with {place.last_reason} and "
                    f"restart_workers is off; {failed_entries} of its requests were answered with 503. "
                    "The server drains and ends."
                )
            )
            return
        backoff_s = place.policy.backoff_s(died_ns, was_ready=place.was_ready)
        if backoff_s is None:
            self._fail(
                WorkerFailedToStart(
                    f"The {place.role} {place.index} ({place.label}) ended {place.policy.budget + 1} times "
                    f"in a row before it was ready, last with {place.last_reason}. Its log lines above say "
                    "why; mend `setup` or the device, then start the server again."
                )
            )
            return
        place.due_ns = died_ns + int(backoff_s * 1e9)
        self._roster.count_restart(place.cell)
        logger.warning(
            "%s replaced: %s=%d pid=%d reason=%s failed_entries=%d restart=%d/%d backoff_ms=%d",
            place.role,
            place.role,
            place.index,
            pid,
            place.last_reason,
            failed_entries,
            place.policy.recent,
            place.policy.budget,
            backoff_s * 1000,
        )

    def _fail(self, failure: WorkerError) -> None:
        if self.failure is None:
            logger.critical("server ends: code=%s message=%s", failure.code, failure)
            self.failure = failure

    def _note_ready(self) -> None:
        now = now_ns()
        for place in self._places:
            child = place.child
            if child is None or place.was_ready:
                continue
            if self._roster.state(place.cell) == ProcessState.READY:
                place.was_ready = True
                start_ms = (now - child.started_ns) // 1_000_000
                logger.info(
                    "%s ready: %s=%d pid=%d start_ms=%d %s",
                    place.role,
                    place.role,
                    place.index,
                    child.pid,
                    start_ms,
                    place.label,
                )
            elif now - max(child.started_ns, self._reminded_ns) > REMIND_NS:
                self._reminded_ns = now
                elapsed_s = (now - child.started_ns) / 1e9
                logger.warning(
                    "%s still starts: %s=%d pid=%d elapsed_s=%.0f %s",
                    place.role,
                    place.role,
                    place.index,
                    child.pid,
                    elapsed_s,
                    place.label,
                )

    def _end_stalled(self) -> None:
        for stall in self._stalls.stalled(now_ns()):
            place = next(p for p in self._of("worker") if p.index == stall.worker)
            if place.child is None:
                continue
            logger.error(
                "worker stalled: worker=%d pid=%d entry=%d overdue_ms=%d",
                stall.worker,
                place.child.pid,
                stall.entry_id,
                stall.overdue_ms,
            )
            place.child.signal(signal.SIGKILL)

    def _pause_s(self) -> float:
        now = now_ns()
        pause_s = min(TURN_S, self._stalls.period_ns / 1e9)
        for place in self._places:
            if place.due_ns is not None:
                pause_s = min(pause_s, max(0.0, (place.due_ns - now) / 1e9))
            elif place.child is not None and not place.was_ready and place.wanted:
                patient = now - place.child.started_ns > PATIENT_AFTER_NS
                pause_s = min(pause_s, PATIENT_TURN_S if patient else STARTING_TURN_S)
        return pause_s
