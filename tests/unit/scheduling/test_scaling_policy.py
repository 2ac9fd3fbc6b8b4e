# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import itertools

import pytest

from cubbyhole.scheduling.scaling import ScalingPolicy, Seen

SECOND = 1_000_000_000


class FakeClock:
    """Time that passes when the test says so."""

    def __init__(self) -> None:
        self.now_ns = 1000 * SECOND

    def __call__(self, seconds: float = 0.0) -> int:
        self.now_ns += int(seconds * SECOND)
        return self.now_ns


def look(*, waits_s: float = 0.0, running: int = 0, starting: bool = False) -> Seen:
    return Seen(int(waits_s * SECOND), running, starting)


@pytest.fixture
def policy() -> ScalingPolicy:
    return ScalingPolicy(1, 4, up_after_s=1.0, down_after_s=60.0)


def test_a_queue_that_grows_old_asks_for_a_worker(policy: ScalingPolicy) -> None:
    assert policy.wanted(0, 1, look(waits_s=0.9, running=1)) == 1
    assert policy.wanted(0, 1, look(waits_s=1.1, running=1)) == 2


def test_one_worker_at_a_time(policy: ScalingPolicy) -> None:
    assert policy.wanted(0, 2, look(waits_s=30, running=1, starting=True)) == 2
    assert policy.wanted(0, 2, look(waits_s=30, running=2)) == 3


def test_there_is_a_most_and_a_least(policy: ScalingPolicy) -> None:
    clock = FakeClock()
    assert policy.wanted(clock(), 4, look(waits_s=30, running=4)) == 4
    for _ in range(10):
        assert policy.wanted(clock(1000), 1, look()) == 1
    assert policy.wanted(clock(), 0, look()) == 1


def test_a_worker_that_was_idle_for_long_is_too_many(policy: ScalingPolicy) -> None:
    clock = FakeClock()
    assert policy.wanted(clock(), 3, look(running=2)) == 3
    assert policy.wanted(clock(59), 3, look(running=1)) == 3
    assert policy.wanted(clock(2), 3, look(running=2)) == 2


@pytest.mark.parametrize("disturbed", [{"waits_s": 0.1, "running": 2}, {"running": 3}])
def test_one_busy_look_begins_the_idle_time_anew(
    policy: ScalingPolicy, disturbed: dict[str, float]
) -> None:
    clock = FakeClock()
    policy.wanted(clock(), 3, look())
    policy.wanted(clock(50), 3, look(**disturbed))  # type: ignore[arg-type]
    assert policy.wanted(clock(20), 3, look()) == 3
    assert policy.wanted(clock(59), 3, look()) == 3
    assert policy.wanted(clock(2), 3, look()) == 2


def test_workers_go_one_after_another_each_after_its_time(policy: ScalingPolicy) -> None:
    clock = FakeClock()
    present, left = 4, []
    for _ in range(31):
        before, present = present, policy.wanted(clock(10), present, look())
        if present < before:
            left.append(clock())
    assert present == 1
    assert [b - a for a, b in itertools.pairwise(left)] == [60 * SECOND] * 2


def test_a_load_at_the_edge_does_not_flap(policy: ScalingPolicy) -> None:
    """Bursts that are served within the threshold by all workers, with pauses below the idle time."""
    clock = FakeClock()
    present = 2
    for _ in range(100):
        present = policy.wanted(clock(5), present, look(waits_s=0.5, running=present))
        present = policy.wanted(clock(40), present, look())
    assert present == 2


def test_an_idle_time_before_somebody_elses_decision_does_not_count(policy: ScalingPolicy) -> None:
    clock = FakeClock()
    policy.wanted(clock(), 3, look())
    clock(1000)
    policy.forget()
    assert policy.wanted(clock(), 3, look()) == 3
    assert policy.wanted(clock(61), 3, look()) == 2
