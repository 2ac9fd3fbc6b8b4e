# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import logging
import os
import signal
from typing import TYPE_CHECKING, Any

import pytest
from tests.unit.supervise.targets import Arguments, child

from cubbyhole.core.clock import NEVER_NS, now_ns
from cubbyhole.core.errors import WorkerDied, WorkerFailedToStart
from cubbyhole.core.roster import ProcessState, Roster
from cubbyhole.core.statistics import ChannelStatistics, EntrySnapshot
from cubbyhole.supervise.drain import SignalPipe, drain
from cubbyhole.supervise.health import StallWatch
from cubbyhole.supervise.lifeline import Lifeline
from cubbyhole.supervise.place import Place
from cubbyhole.supervise.pool import Pool
from cubbyhole.supervise.process import spawn_child
from cubbyhole.supervise.restarts import RestartPolicy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cubbyhole.channels.base import Role

SECOND = 1_000_000_000


class FakeChannel:
    """What a supervisor uses of a channel."""

    def __init__(self) -> None:
        self.reclaimed: list[tuple[str, int]] = []
        self.entries: list[EntrySnapshot] = []

    def reclaim(self, role: Role, index: int) -> int:
        self.reclaimed.append((role, index))
        return 2

    def snapshot(self) -> list[EntrySnapshot]:
        return self.entries

    def statistics(self) -> ChannelStatistics:
        return ChannelStatistics(kind="fake", claimed=len(self.entries))


class House:
    """Two workers and a front around a fake channel."""

    def __init__(self, does: list[str], *, restart_workers: bool = True, budget: int = 5) -> None:
        self.roster = Roster.create(1, len(does))
        self.lifeline = Lifeline.create()
        self.channel = FakeChannel()
        self.does = does
        places = [self.place("front", 0, budget)]
        places += [self.place("worker", index, budget) for index in range(len(does))]
        self.pool = Pool(places, self.channel, self.roster, restart_workers=restart_workers)  # type: ignore[arg-type]

    def place(self, role: Role, index: int, budget: int) -> Place:
        cell = 0 if role == "front" else self.roster.worker_cell(index)

        def start() -> Any:
            do = self.does[index] if role == "worker" else "serve"
            return spawn_child(role, index, child, Arguments(cell, self.roster, self.lifeline, do))

        return Place(role=role, index=index, cell=cell, start=start, policy=RestartPolicy(budget))

    def turn_until(
        self, condition: Callable[[], object], wait_until: Callable[..., object]
    ) -> None:
        def turned() -> object:
            self.pool.turn(at_most_s=0.05)
            return condition()

        wait_until(turned)

    def worker_pid(self, index: int) -> int:
        return self.roster.pid(self.roster.worker_cell(index))

    def close(self) -> None:
        self.pool.end()
        self.lifeline.close()
        self.roster.close()


@pytest.fixture
def house() -> Iterator[Callable[..., House]]:
    houses: list[House] = []

    def build(*does: str, **options: Any) -> House:
        houses.append(House(list(does), **options))
        return houses[-1]

    yield build
    for one in houses:
        one.close()


def serving(house: House, wait_until: Callable[..., object]) -> None:
    house.pool.start("worker")
    house.turn_until(house.roster.workers_ready, wait_until)
    house.turn_until(house.pool.any_ready, wait_until)
    house.pool.settle()


def test_a_dead_worker_is_reclaimed_and_replaced(
    house: Callable[..., House], wait_until: Callable[..., object], caplog: pytest.LogCaptureFixture
) -> None:
    home = house("serve", "serve")
    serving(home, wait_until)
    pid = home.worker_pid(1)
    with caplog.at_level(logging.WARNING, "cubbyhole"):
        os.kill(pid, signal.SIGKILL)
        home.turn_until(lambda: home.channel.reclaimed, wait_until)
    assert home.channel.reclaimed == [("worker", 1)]
    assert (
        f"worker replaced: worker=1 pid={pid} reason=signal:SIGKILL failed_entries=2 restart=1/5 backoff_ms=0"
        in caplog.text
    )
    home.turn_until(lambda: home.roster.workers_ready() and home.worker_pid(1) != pid, wait_until)
    assert home.roster.restarts(home.roster.worker_cell(1)) == 1
    assert home.pool.failure is None


def test_a_dead_front_is_reclaimed_and_replaced(
    house: Callable[..., House], wait_until: Callable[..., object]
) -> None:
    home = house("serve")
    serving(home, wait_until)
    home.pool.start("front")
    pid = home.roster.pid(0)
    os.kill(pid, signal.SIGSEGV)
    home.turn_until(lambda: home.roster.pid(0) not in (0, pid), wait_until)
    assert home.channel.reclaimed == [("front", 0)]


def test_without_restart_workers_a_death_ends_the_server(
    house: Callable[..., House], wait_until: Callable[..., object]
) -> None:
    home = house("serve", "serve", restart_workers=False)
    serving(home, wait_until)
    os.kill(home.worker_pid(0), signal.SIGKILL)
    home.turn_until(lambda: home.pool.failure, wait_until)
    assert isinstance(home.pool.failure, WorkerDied)
    assert home.channel.reclaimed == [("worker", 0)]
    assert home.pool.alive("worker") == 1


def test_start_up_failures_are_not_retried_before_one_is_ready(
    house: Callable[..., House], wait_until: Callable[..., object]
) -> None:
    home = house("fail", "fail")
    home.pool.start("worker")
    home.turn_until(lambda: not home.pool.alive("worker"), wait_until)
    assert [line.rpartition(" ")[2] for line in home.pool.failed_starts()] == ["exit:3"] * 2


def test_a_worker_whose_setup_keeps_failing_is_given_up(
    house: Callable[..., House], wait_until: Callable[..., object]
) -> None:
    home = house("serve", "fail", budget=1)
    home.pool.start("worker")
    home.turn_until(home.pool.any_ready, wait_until)
    home.pool.settle()
    home.turn_until(lambda: home.pool.failure, wait_until)
    assert isinstance(home.pool.failure, WorkerFailedToStart)
    assert "exit:3" in str(home.pool.failure)


def test_retiring_waits_for_nobody_to_be_restarted(
    house: Callable[..., House], wait_until: Callable[..., object]
) -> None:
    home = house("serve", "serve")
    serving(home, wait_until)
    home.pool.retire("worker")
    home.turn_until(lambda: not home.pool.alive("worker"), wait_until)
    home.pool.turn(at_most_s=0)
    assert home.pool.alive("worker") == 0
    assert home.roster.state(home.roster.worker_cell(0)) == ProcessState.FINISHED


def test_drain_ends_fronts_before_workers_and_says_so_first(
    house: Callable[..., House], wait_until: Callable[..., object]
) -> None:
    home = house("serve")
    serving(home, wait_until)
    home.pool.start("front")
    home.turn_until(lambda: home.roster.state(0) == ProcessState.READY, wait_until)
    seen: list[tuple[str, int, int]] = []

    def look() -> None:
        state = home.roster.state(home.roster.supervisor).name
        seen.append((state, home.pool.alive("front"), home.pool.alive("worker")))

    signals = SignalPipe()
    drain(home.pool, home.roster, signals, timeout_s=5.0, stop_listening=look, in_flight=lambda: 0)
    signals.close()
    assert seen == [("DRAINING", 1, 1)]
    assert home.channel.reclaimed == [("front", 0), ("worker", 0)]


def test_a_second_signal_hurries_a_drain(
    house: Callable[..., House],
    wait_until: Callable[..., object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("cubbyhole.supervise.drain.WORKER_EXIT_S", 1000.0)  # else the watchdog
    home = house("stubborn")
    serving(home, wait_until)
    signals = SignalPipe()
    signals.stop("SIGINT")
    drain(
        home.pool,
        home.roster,
        signals,
        timeout_s=5.0,
        stop_listening=lambda: signals.stop("SIGINT"),
        in_flight=lambda: 0,
    )
    signals.close()
    assert home.pool.alive("worker") == 0


def snapshot(**changes: Any) -> EntrySnapshot:
    now = now_ns()
    values = {
        "id": 7,
        "endpoint": 0,
        "state": "CLAIMED",
        "front": 0,
        "owner": 0,
        "deadline_ns": now - 3 * SECOND,
    }
    return EntrySnapshot(**{**values, **changes})


@pytest.mark.parametrize(
    ("changes", "beat_age_s", "stalled"),
    [
        ({}, 10, True),
        ({}, 0, False),
        ({"owner": 1}, 10, False),
        ({"deadline_ns": NEVER_NS}, 10, False),
        ({"deadline_ns": 0}, 10, False),
        ({"state": "STREAMING"}, 10, False),
        ({"state": "READY", "owner": -1}, 10, False),
    ],
)
def test_a_worker_is_stalled_when_it_is_silent_and_overdue(
    changes: dict[str, Any], beat_age_s: int, stalled: bool
) -> None:
    roster = Roster.create(1, 2)
    now = now_ns()
    for worker, age_s in ((0, beat_age_s), (1, 0)):
        roster.set_pid(roster.worker_cell(worker), 1)
        roster.beat(roster.worker_cell(worker), now - age_s * SECOND)
    channel = FakeChannel()
    channel.entries = [snapshot(**changes)]
    watch = StallWatch(channel, roster)  # type: ignore[arg-type]
    assert [(stall.worker, stall.entry_id) for stall in watch.stalled(now)] == [(0, 7)] * stalled
    roster.close()


def test_a_stalled_worker_is_ended_and_replaced(
    house: Callable[..., House], wait_until: Callable[..., object]
) -> None:
    home = house("serve")
    serving(home, wait_until)
    pid = home.worker_pid(0)
    home.channel.entries = [snapshot()]
    home.roster.beat(home.roster.worker_cell(0), now_ns() - 5 * SECOND)
    home.turn_until(lambda: home.worker_pid(0) not in (0, pid), wait_until)
    assert home.channel.reclaimed == [("worker", 0)]


def test_ending_kills_the_stubborn(
    house: Callable[..., House], wait_until: Callable[..., object]
) -> None:
    home = house("stubborn", "hang_in_setup")
    home.pool.start("worker")
    home.turn_until(home.pool.any_ready, wait_until)
    home.pool.end()
    assert home.pool.alive("worker") == 0


def test_a_restart_that_the_system_refuses_is_tried_again(
    house: Callable[..., House], wait_until: Callable[..., object]
) -> None:
    """Without memory or processes for a moment: the others must not be taken down with it."""
    home = house("serve", "serve")
    serving(home, wait_until)
    place = home.pool._places[1]
    start, refused = place.start, [OSError(11, "Resource temporarily unavailable")]

    def start_or_refuse() -> Any:
        if refused:
            raise refused.pop()
        return start()

    place.start = start_or_refuse
    os.kill(home.worker_pid(0), signal.SIGKILL)
    home.turn_until(lambda: not refused and home.roster.workers_ready(), wait_until)
    assert home.pool.alive("worker") == 2
    assert home.roster.restarts(home.roster.worker_cell(0)) == 2
