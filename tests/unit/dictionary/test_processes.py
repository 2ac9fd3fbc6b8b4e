# SPDX-License-Identifier: Apache-2.0
"""The dictionary in other processes: spawned, forked, attached, killed."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cubbyhole import SharedDict

pytestmark = [
    pytest.mark.timeout(60),
    # These processes are forked on purpose, with threads of the test runner about.
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"),
]


def double(shared: SharedDict, rounds: int) -> None:
    for number in range(rounds):
        array = shared.wait(f"in{number}", timeout_s=20)
        with shared.reserve(f"out{number}", shape=array.shape, dtype=array.dtype) as out:
            np.multiply(array, 2, out=out)
        del shared[f"in{number}"]


def hold_then_wait(shared: SharedDict) -> None:
    view = shared["held"]
    shared["ready"] = os.getpid()
    shared.wait("never", timeout_s=60)
    del view


@pytest.mark.parametrize("method", ["spawn", "fork", "forkserver"])
def test_arrays_travel_to_a_child_and_back(d: SharedDict, method: str) -> None:
    context: Any = multiprocessing.get_context(method)
    child = context.Process(target=double, args=(d, 20))
    child.start()
    for number in range(20):
        d[f"in{number}"] = np.full(1000, number, "f4")
        assert (d.wait(f"out{number}", timeout_s=20) == 2 * number).all()
        del d[f"out{number}"]
    child.join()
    assert child.exitcode == 0
    assert len(d) == 0


def test_a_killed_reader_holds_nothing_after_the_next_look(d: SharedDict) -> None:
    d["held"] = np.arange(1000)
    child = multiprocessing.get_context("spawn").Process(target=hold_then_wait, args=(d,))
    child.start()
    pid = d.wait("ready", timeout_s=30)
    (held,) = (key for key in d.snapshot().keys if key.key == "held")
    assert held.holder_pids == (pid,)
    os.kill(pid, signal.SIGKILL)
    child.join()
    del d["held"], d["ready"]
    assert d.statistics().used_blocks >= 1  # it may have died before it let its own "ready" go
    assert d._segment.reap(1)
    assert d.statistics().used_blocks == 0


def in_fork(act: Any) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(0 if act() else 3)
        finally:
            os._exit(4)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_forked_child_sits_at_a_place_of_its_own(d: SharedDict) -> None:
    place = d._segment.place
    assert in_fork(lambda: d._segment.place != place and d._segment.pid(place) == os.getppid()) == 0
    assert d._segment.pid(place) == os.getpid()


def test_views_taken_before_a_fork_are_the_childs_too(d: SharedDict) -> None:
    """The child drops its copy: the parent's stays held. Without a place of its own it would give up the parent's."""
    d["k"] = np.arange(1000)
    view: list[Any] = [d["k"]]

    def in_child() -> bool:
        whole = (view[0] == np.arange(1000)).all()
        view.clear()
        d["from the child"] = 1
        return bool(whole)

    assert in_fork(in_child) == 0
    del d["k"]
    for number in range(100):
        d[f"other{number}"] = np.full(1000, number)
    np.testing.assert_array_equal(view[0], np.arange(1000))
    assert d.pop("from the child") == 1


def test_what_a_child_allocates_is_not_handed_out_by_its_parent_too(d: SharedDict) -> None:
    for number in range(40):  # free blocks in the parent's private lists
        d[f"k{number}"] = b"p" * 500
    for number in range(40):
        del d[f"k{number}"]

    def in_child() -> bool:
        for number in range(40):
            d[f"c{number}"] = b"c" * 500
        return True

    assert in_fork(in_child) == 0
    for number in range(40):
        d[f"p{number}"] = b"p" * 500
    assert all(d[f"c{number}"] == b"c" * 500 for number in range(40))
    assert all(d[f"p{number}"] == b"p" * 500 for number in range(40))


ATTACHED = """
import sys
from cubbyhole import SharedDict
with SharedDict.attach(int(sys.argv[1]), int(sys.argv[2])) as d:
    d["answer"] = d["question"].sum().item()
"""


def test_a_stranger_of_the_same_user_attaches_by_pid_and_descriptor(d: SharedDict) -> None:
    d["question"] = np.arange(10)
    subprocess.run(
        [sys.executable, "-c", ATTACHED, str(os.getpid()), str(d.fileno())],
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert d["answer"] == 45


def test_nothing_is_left_of_a_dictionary_that_was_closed() -> None:
    def memfds() -> int:
        maps = Path("/proc/self/maps").read_text() + "".join(
            str(link.readlink()) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()
        )
        return maps.count("memfd:cubbyhole")

    before = memfds()
    d = SharedDict.create(bytes=2**20)
    assert memfds() > before
    d.close()
    del d
    assert memfds() == before


def writer_that_counts(shared: SharedDict, key: str) -> None:
    for _ in range(2000):
        while True:
            value = shared.pop(key, None)
            if value is not None:
                break
        shared[key] = value + 1


def test_pop_gives_a_value_to_one_process_only(d: SharedDict) -> None:
    """A token that three processes take and put back: every increment counts."""
    d["token"] = 0
    context = multiprocessing.get_context("fork")
    children = [context.Process(target=writer_that_counts, args=(d, "token")) for _ in range(3)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert d["token"] == 6000


def first_comer(shared: SharedDict) -> None:
    for number in range(300):
        shared[f"{os.getpid()}/{number}"] = shared.setdefault(f"k{number}", os.getpid())


def test_setdefault_gives_all_processes_the_first_value(d: SharedDict) -> None:
    context = multiprocessing.get_context("fork")
    children = [context.Process(target=first_comer, args=(d,)) for _ in range(3)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    for number in range(300):
        assert {d[f"{child.pid}/{number}"] for child in children} == {d[f"k{number}"]}
