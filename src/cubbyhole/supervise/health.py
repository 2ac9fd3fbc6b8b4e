# SPDX-License-Identifier: Apache-2.0
"""Find processes that hang: a worker that holds an entry past its deadline and has stopped to beat, a front that does not beat.

Flow:  pool.py, once a second -> StallWatch.stalled(), lingering.py -> pool ends the process -> death is handled as any other
Owns:  nothing. Reads the roster (heartbeats) and, only if something is claimed, the channel's snapshot.

The client had its 504 at the deadline already, from its front. Here the worker is the matter: `predict` that never
returns would keep it for ever. A worker whose loop still beats (an asyncio worker with one late task) can help itself.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec

from cubbyhole.core.entries import EntryState

if TYPE_CHECKING:
    from cubbyhole.channels.base import Channel
    from cubbyhole.core.roster import Roster
    from cubbyhole.core.statistics import EntrySnapshot

GRACE_NS = 1_000_000_000  # a predict that ends just after its deadline is late, not hung: not worth a restart
STALE_NS = 2_000_000_000  # workers beat at least once a second while their loop turns
LOOK_EVERY_NS = 1_000_000_000
SHORTEST_LOOK_NS = 50_000_000
EXECUTION_GRACE_NS = (
    250_000_000  # the front cancels at the end of the time: whoever looks can stop by himself
)


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How long processes may go on: fields of `ServerSettings`."""

    execution_timeout_s: float = math.inf
    kill_cancelled_after_s: float = math.inf
    front_timeout_s: float = math.inf


class Stall(msgspec.Struct, frozen=True):
    """A worker that hangs, and on what."""

    worker: int
    entry_id: int
    overdue_ms: int


class StallWatch:
    """Looks at the channel at most once a second."""

    def __init__(
        self, channel: Channel, roster: Roster, execution_timeout_s: float = float("inf")
    ) -> None:
        self._channel = channel
        self._roster = roster
        self._last_look_ns = 0
        self._execution_ns: int | None = None
        self.period_ns = LOOK_EVERY_NS
        if not math.isinf(execution_timeout_s):
            self._execution_ns = int(execution_timeout_s * 1e9)
            self.period_ns = min(LOOK_EVERY_NS, max(self._execution_ns // 4, SHORTEST_LOOK_NS))

    def stalled(self, now_ns: int) -> list[Stall]:
        """Return the workers to end now, each with the entry that is most overdue."""
        if now_ns - self._last_look_ns < self.period_ns:
            return []
        self._last_look_ns = now_ns
        silent = [index for index in range(self._roster.workers) if self._is_silent(index, now_ns)]
        if not (silent or self._execution_ns) or not self._channel.statistics().claimed:
            return []
        found: dict[int, Stall] = {}
        claimed = EntryState.CLAIMED.name
        for entry in self._channel.snapshot():
            if entry.state.upper() != claimed:
                continue  # streams that flow may outlive their deadline: it is for the first chunk
            overdue_ns = now_ns - entry.deadline_ns if entry.deadline_ns else 0
            if entry.owner not in silent or overdue_ns < GRACE_NS:
                overdue_ns = self._over_execution_ns(entry, now_ns)
                if overdue_ns < EXECUTION_GRACE_NS:
                    continue
            stall = Stall(entry.owner, entry.id, overdue_ns // 1_000_000)
            if entry.owner not in found or stall.overdue_ms > found[entry.owner].overdue_ms:
                found[entry.owner] = stall
        return list(found.values())

    def _over_execution_ns(self, entry: EntrySnapshot, now_ns: int) -> int:
        """How long a worker has had an entry beyond its execution time, without a beat since that was over."""
        if self._execution_ns is None or entry.owner < 0 or not entry.claimed_ns:
            return 0
        over_ns = entry.claimed_ns + self._execution_ns
        last_beat_ns = self._roster.last_beat_ns(self._roster.worker_cell(entry.owner))
        return 0 if last_beat_ns >= over_ns else now_ns - over_ns

    def _is_silent(self, index: int, now_ns: int) -> bool:
        cell = self._roster.worker_cell(index)
        return self._roster.pid(cell) != 0 and now_ns - self._roster.last_beat_ns(cell) >= STALE_NS
