# SPDX-License-Identifier: Apache-2.0
"""Which workers died of which request: kept in the roster's memory, where it is found when a request turns out to be poison.

The front that answers knows how many workers an entry had, and who the last one was; only the supervisor sees each of them die, and
how. So it writes a record for every entry that a dead worker held, into a ring of its own behind those of the fronts.

Flow:  Pool: a worker ended -> **DeathBook.held**, reclaim, **DeathBook.note** -> `cubbyhole requests --quarantined`, `inspect`
Owns:  nothing; the ring is the roster's.
See:   core/failures.py
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from cubbyhole.core.clock import now_ns
from cubbyhole.core.failures import FailureRecord, keep_failure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cubbyhole.channels.base import Channel
    from cubbyhole.core.roster import Roster
    from cubbyhole.core.statistics import EntrySnapshot
    from cubbyhole.supervise.place import Place

MOST_AT_ONCE = 16  # of a batch: more would push all older records out of the ring


class DeathBook:
    """Where the supervisor notes what its workers died of."""

    def __init__(self, channel: Channel, roster: Roster) -> None:
        self._channel = channel
        self._roster = roster

    def held(self, place: Place) -> list[EntrySnapshot]:
        """Return what a worker holds that has ended, before it is reclaimed; nothing where the channel shows nothing."""
        if place.role != "worker" or not self._channel.statistics().claimed:
            return []
        mine = [one for one in self._channel.snapshot() if one.owner == place.index]
        return [one for one in mine if one.state.upper() in ("CLAIMED", "STREAMING")]

    def note(self, place: Place, pid: int, held: Sequence[EntrySnapshot]) -> None:
        """Write down that it ended, with `place.last_reason`, while it held these."""
        for entry in held[:MOST_AT_ONCE]:
            record = FailureRecord(
                id=entry.id,
                endpoint=entry.endpoint,
                code="worker_died",
                status=503,
                message=f"worker {place.index} (pid {pid}) ended with {place.last_reason} while it held this request",
                worker=place.index,
                attempt=entry.attempt,
                times_ns=(entry.received_ns, entry.ready_ns, entry.claimed_ns, 0, 0),
                failed_ns=now_ns(),
                failed_at_s=time.time(),
            )
            with self._roster.deaths() as ring:
                keep_failure(ring, record)
