# SPDX-License-Identifier: Apache-2.0
"""A child beside the fronts and workers: started when due, again after its death, ended with the server."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from tests.conftest import poll_until

from cubbyhole.supervise.attendant import Attendant
from cubbyhole.supervise.process import Child, fork_child
from cubbyhole.supervise.restarts import RestartPolicy


def _sleep(_: object) -> None:
    time.sleep(60)


def _leave(_: object) -> None:
    os._exit(3)


class Stage:
    """An attendant that runs in real processes."""

    def __init__(self, *, leaves: bool = False) -> None:
        self.due = False
        self.ended = 0
        self.started: list[Child] = []
        self._target = _leave if leaves else _sleep
        self.attendant = Attendant(
            "inspector",
            self._start,
            is_due=lambda: self.due,
            on_end=self._note_end,
            policy=RestartPolicy(budget=1),
        )

    def _start(self) -> Child:
        self.started.append(fork_child("inspector", 0, self._target, None))
        return self.started[-1]

    def _note_end(self) -> None:
        self.ended += 1


def test_it_starts_only_once_it_is_due_and_ends_with_the_server() -> None:
    stage = Stage()
    stage.attendant.turn()
    assert not stage.started
    assert stage.attendant.descriptors() == []
    stage.due = True
    stage.attendant.turn()
    stage.attendant.turn()
    (child,) = stage.started
    assert stage.attendant.descriptors() == [child.fileno()]
    stage.attendant.end()
    assert stage.ended == 1
    assert not Path(f"/proc/{child.pid}").exists()
    stage.attendant.turn()
    assert len(stage.started) == 1


def test_a_killed_one_is_started_again() -> None:
    stage = Stage()
    stage.due = True
    stage.attendant.turn()
    os.kill(stage.started[0].pid, signal.SIGKILL)

    def is_replaced() -> bool:
        stage.attendant.turn()
        return len(stage.started) == 2

    try:
        poll_until(is_replaced)
    finally:
        stage.attendant.end()


def test_one_that_cannot_start_is_given_up() -> None:
    stage = Stage(leaves=True)
    stage.due = True
    starts = 0

    def is_given_up() -> bool:
        nonlocal starts
        stage.attendant.turn()
        starts = len(stage.started)
        return stage.attendant.given_up

    poll_until(is_given_up, timeout_s=40)
    stage.attendant.turn()
    assert len(stage.started) == starts
    assert stage.attendant.child is None
