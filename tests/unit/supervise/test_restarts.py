# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from cubbyhole.supervise.restarts import RestartPolicy

SECOND = 1_000_000_000


def test_the_first_restart_is_at_once_and_the_next_ones_slower() -> None:
    policy = RestartPolicy(window_s=60.0)
    pauses = [policy.backoff_s(n * SECOND, was_ready=True) for n in range(8)]
    assert pauses == [0.0, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0]


def test_old_deaths_are_forgotten() -> None:
    policy = RestartPolicy(window_s=60.0)
    policy.backoff_s(0, was_ready=True)
    assert policy.backoff_s(61 * SECOND, was_ready=True) == 0.0
    assert policy.recent == 1


def test_a_worker_that_never_gets_ready_is_given_up() -> None:
    policy = RestartPolicy(budget=3)
    pauses = [policy.backoff_s(n * SECOND, was_ready=False) for n in range(4)]
    assert pauses == [0.0, 0.4, 0.8, None]


def test_a_worker_that_was_ready_is_never_given_up() -> None:
    """Else a client that knows an input which crashes the model could stop the server."""
    policy = RestartPolicy(budget=3)
    assert all(policy.backoff_s(n, was_ready=True) is not None for n in range(100))


def test_being_ready_once_wipes_failed_starts() -> None:
    policy = RestartPolicy(budget=2)
    for ready in (False, False, True, False, False):
        assert policy.backoff_s(0, was_ready=ready) is not None
    assert policy.backoff_s(0, was_ready=False) is None
