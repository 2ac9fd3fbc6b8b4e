# SPDX-License-Identifier: Apache-2.0
"""What the children of these tests run: tiny processes, importable in a spawned child."""

from __future__ import annotations

import os
import select
import signal
import sys
from typing import TYPE_CHECKING

import msgspec

from cubbyhole.core.clock import now_ns
from cubbyhole.core.roster import ProcessState, Roster

if TYPE_CHECKING:
    from cubbyhole.supervise.lifeline import Lifeline


class Arguments(msgspec.Struct):
    """`do` names what the child does."""

    cell: int
    roster: Roster
    lifeline: Lifeline
    do: str = "serve"


def child(arguments: Arguments) -> None:
    """Be a worker or a front, as far as a supervisor can tell."""
    if arguments.do == "fail":
        sys.exit(3)
    stop_r, stop_w = os.pipe()
    if arguments.do == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    else:
        signal.signal(signal.SIGTERM, lambda *_: os.write(stop_w, b"x"))
    if arguments.do != "hang_in_setup":
        arguments.roster.set_state(arguments.cell, ProcessState.READY)
    arguments.roster.beat(arguments.cell, now_ns())
    if arguments.do == "hold_gil":
        sum(range(10**13))  # one call of C code: no other thread of this process runs
    select.select([arguments.lifeline.fileno(), stop_r], [], [])


def supervise_and_say(roster: Roster, spawned_does: str) -> None:
    """Be a supervisor with one spawned and one forked child, for a test that kills it."""
    from cubbyhole.supervise.lifeline import Lifeline
    from cubbyhole.supervise.process import fork_child, spawn_child

    lifeline = Lifeline.create()
    for index, start in enumerate((spawn_child, fork_child)):
        do = spawned_does if start is spawn_child else "serve"
        pid = start("worker", index, child, Arguments(index, roster, lifeline, do)).pid
        roster.set_pid(index, pid)
    select.select([], [], [])
