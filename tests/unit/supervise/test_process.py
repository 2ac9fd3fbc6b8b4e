# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from multiprocessing import get_context
from typing import TYPE_CHECKING

import pytest
from tests.unit.supervise.targets import Arguments, child, supervise_and_say

from cubbyhole.core.roster import ProcessState, Roster
from cubbyhole.supervise.lifeline import Lifeline
from cubbyhole.supervise.process import Child, describe_exit, fork_child, spawn_child

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

STARTS = [spawn_child, fork_child]


@pytest.fixture
def roster() -> Iterator[Roster]:
    roster = Roster.create(0, 2)
    yield roster
    roster.close()


@pytest.fixture
def lifeline() -> Iterator[Lifeline]:
    lifeline = Lifeline.create()
    yield lifeline
    lifeline.close()


def ended(process: Child, timeout_s: float = 10.0) -> str:
    assert select.select([process], [], [], timeout_s)[0], "no sign of the child's end"
    return process.reap(1.0) or ""


def test_exit_reasons_are_words() -> None:
    assert describe_exit(0) == "exit:0"
    assert describe_exit(1) == "exit:1"
    assert describe_exit(-9) == "signal:SIGKILL"
    assert describe_exit(-11) == "signal:SIGSEGV"
    assert describe_exit(-200) == "signal:200"


@pytest.mark.parametrize("start", STARTS)
def test_a_death_is_seen_by_descriptor_with_its_reason(
    start: Callable[..., Child],
    roster: Roster,
    lifeline: Lifeline,
    wait_until: Callable[..., object],
) -> None:
    process = start("worker", 0, child, Arguments(0, roster, lifeline))
    wait_until(lambda: roster.state(0) == ProcessState.READY)
    assert process.reap(0) is None
    process.signal(signal.SIGKILL)
    assert ended(process) == "signal:SIGKILL"
    process.signal(signal.SIGKILL)  # harmless: the pid is not ours any more


@pytest.mark.parametrize("start", STARTS)
def test_an_exit_code_is_told(
    start: Callable[..., Child], roster: Roster, lifeline: Lifeline
) -> None:
    assert ended(start("worker", 0, child, Arguments(0, roster, lifeline, "fail"))) == "exit:3"


@pytest.mark.parametrize("start", STARTS)
def test_children_end_when_the_supervisor_lets_go_of_the_lifeline(
    start: Callable[..., Child],
    roster: Roster,
    lifeline: Lifeline,
    wait_until: Callable[..., object],
) -> None:
    process = start("worker", 0, child, Arguments(0, roster, lifeline))
    wait_until(lambda: roster.state(0) == ProcessState.READY)
    lifeline.let_go()
    assert ended(process) == "exit:0"


@pytest.mark.parametrize("worker_does", ["serve", "hold_gil"])
def test_children_end_when_the_supervisor_is_killed(
    worker_does: str, roster: Roster, wait_until: Callable[..., object]
) -> None:
    """A sibling that inherited the write end would keep the line, and so the others, alive.

    A thread that watches the line does not run while C code of a model holds the GIL.
    """
    supervisor = get_context("spawn").Process(target=supervise_and_say, args=(roster, worker_does))
    supervisor.start()
    wait_until(lambda: all(roster.state(cell) == ProcessState.READY for cell in range(2)))
    supervisor.kill()
    supervisor.join()
    wait_until(lambda: not any(is_running(roster.pid(cell)) for cell in range(2)))
    supervisor.close()


def test_a_grandchild_does_not_hide_a_death(
    roster: Roster, lifeline: Lifeline, wait_until: Callable[..., object]
) -> None:
    """multiprocessing's sentinel is a pipe that forked grandchildren (data loaders) hold open."""
    process = spawn_child("worker", 0, child_with_grandchild, Arguments(0, roster, lifeline))
    wait_until(lambda: roster.pid(1) != 0)
    process.signal(signal.SIGKILL)
    assert ended(process) == "signal:SIGKILL"
    os.kill(roster.pid(1), signal.SIGKILL)


def test_ctrl_c_does_not_reach_a_worker_that_still_imports(
    roster: Roster, lifeline: Lifeline, wait_until: Callable[..., object]
) -> None:
    process = spawn_child("worker", 0, child, Arguments(0, roster, lifeline))
    process.signal(signal.SIGINT)  # its interpreter has hardly begun
    wait_until(lambda: roster.state(0) == ProcessState.READY or process.reap(0))
    assert process.reap(0) is None
    process.signal(signal.SIGKILL)
    process.reap()


def test_spawning_starts_no_resource_tracker(roster: Roster, lifeline: Lifeline) -> None:
    code = (
        "import os; from tests.unit.supervise import targets; from multiprocessing import resource_tracker\n"
        "from cubbyhole.core.roster import Roster\n"
        "from cubbyhole.supervise.lifeline import Lifeline\n"
        "from cubbyhole.supervise.process import spawn_child\n"
        "line = Lifeline.create()\n"
        "child = spawn_child('worker', 0, targets.child, targets.Arguments(0, Roster.create(0, 1), line))\n"
        "line.let_go(); child.reap()\n"
        "print(resource_tracker._resource_tracker._pid)"
    )
    paths = os.pathsep.join(path for path in sys.path if path)
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "None", done.stderr


def child_with_grandchild(arguments: Arguments) -> None:
    pid = os.fork()
    if pid == 0:
        select.select([], [], [])
    arguments.roster.set_pid(1, pid)
    child(arguments)


def is_running(pid: int) -> bool:
    """Whether the process exists and is no zombie."""
    try:
        with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
