# SPDX-License-Identifier: Apache-2.0
"""Workers replaced in order, one after another: for new code (SIGHUP), or because one has grown too large.

Flow:  wiring.py (SIGHUP) -> Pool.roll -> **Rolling.turn**, at each turn of the pool -> SIGTERM to one worker -> it finishes what it has
       claimed and ends -> pool.py starts another -> that one is ready -> the next
Owns:  whose turn it is.

What waits is claimed by the others meanwhile, or by the new worker. If the new one does not become ready, the rest stay as they are.
"""

from __future__ import annotations

import logging
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cubbyhole.supervise.place import Place

logger = logging.getLogger(__name__)

LOOK_EVERY_NS = 1_000_000_000
_STATM_RESIDENT = 1  # field of /proc/PID/statm


class Rolling:
    """Who is to be replaced.

    Args:
        above_bytes: A worker with more memory of its own is replaced; None: memory is not looked at.
    """

    def __init__(self, above_bytes: int | None = None) -> None:
        self._above_bytes = above_bytes
        self._queue: list[Place] = []
        self._current: tuple[Place, int] | None = None  # and the pid that it had
        self._looked_ns = 0

    def add(self, places: Sequence[Place], cause: str) -> int:
        """Have these replaced, after those that are already waiting for it. Returns how many were added."""
        added = [place for place in places if place not in self._queue]
        self._queue += added
        logger.info("workers replaced in turn: count=%d cause=%s", len(added), cause)
        return len(added)

    def turn(self, workers: Sequence[Place], now_ns: int) -> None:
        """Go on to the next one, if the last one is ready again."""
        if self._above_bytes is not None and now_ns - self._looked_ns >= LOOK_EVERY_NS:
            self._looked_ns = now_ns
            self._add_large(workers, self._above_bytes)
        if self._current is not None:
            place, pid = self._current
            if place.wanted and (
                place.child is None or place.child.pid == pid or not place.was_ready
            ):
                return
            self._current = None
        while self._queue:
            place = self._queue.pop(0)
            if place.child is not None and place.was_ready and place.wanted:
                self._current = (place, place.child.pid)
                place.child.signal(signal.SIGTERM)
                return

    def _add_large(self, workers: Sequence[Place], above_bytes: int) -> None:
        for place in workers:
            if place.child is None or not place.was_ready or place in self._queue:
                continue
            if self._current is not None and self._current[0] is place:
                continue
            size_bytes = own_bytes(place.child.pid)
            if size_bytes > above_bytes:
                self.add([place], f"memory:{size_bytes}")


def own_bytes(pid: int) -> int:
    """Return the resident memory of a process less what it shares with others (the segment); 0 where that cannot be told."""
    try:
        fields = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()
    except OSError:  # it has ended, or this is not Linux
        return 0
    resident, shared = int(fields[_STATM_RESIDENT]), int(fields[_STATM_RESIDENT + 1])
    return (resident - shared) * os.sysconf("SC_PAGE_SIZE")
