# SPDX-License-Identifier: Apache-2.0
"""What a pool looks after: a place for each process, and whoever else wants its turns.

Flow:  places.py -> Place -> pool.py;  admin.py -> Ear -> pool.py
Owns:  nothing; a place's process is the pool's.
"""

from __future__ import annotations

from collections.abc import Callable  # noqa: TC003  (msgspec looks it up)
from typing import Protocol

import msgspec

from cubbyhole.channels.base import Role  # noqa: TC001
from cubbyhole.supervise.process import Child  # noqa: TC001
from cubbyhole.supervise.restarts import RestartPolicy


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
    parked: bool = False  # not wanted now, but it may be again
    child: Child | None = None
    due_ns: int | None = None  # when to start (again); None: not scheduled
    was_ready: bool = False
    last_reason: str = ""
