# SPDX-License-Identifier: Apache-2.0
"""Find workers that go on with what is cancelled, and fronts whose event loop stands still.

Both are told by time alone, so both could be wrong when this process itself was stopped for a while (a suspended terminal, a debugger):
whoever was not watched is not judged, and the clock starts anew.

Flow:  Pool.turn -> **Watches.verdicts** -> CancelledWatch, FrontWatch, health.StallWatch -> pool ends the process
Owns:  since when what is so.
See:   health.py, for workers that hang
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec

from cubbyhole.channels.base import Role  # noqa: TC001  (msgspec looks it up)
from cubbyhole.core.roster import ProcessState
from cubbyhole.supervise.health import StallWatch

if TYPE_CHECKING:
    from cubbyhole.channels.base import Channel
    from cubbyhole.core.roster import Roster
    from cubbyhole.supervise.health import Limits

LONGEST_LOOK_S = 1.0
SHORTEST_LOOK_S = 0.05
START_UP_NS = 300_000_000_000  # of a front whose loop has not turned since it was ready: a user's app may load something then
MISSED_LOOKS = 4  # so many periods without a look: we were stopped ourselves
HELD = frozenset(("CLAIMED", "STREAMING"))


class Lingering(msgspec.Struct, frozen=True):
    """A process to end, and why: a cancelled entry that its worker goes on with; of a front, 0."""

    index: int
    entry_id: int
    overdue_ms: int


class _Rounds:
    """When to look, and whether looks were missed."""

    def __init__(self, limit_s: float) -> None:
        self.on = not math.isinf(limit_s)
        self.limit_ns = int(limit_s * 1e9) if self.on else 0
        look_s = min(max(limit_s / 4, SHORTEST_LOOK_S), LONGEST_LOOK_S)
        self.period_ns = int(look_s * 1e9)
        self._last_ns = 0

    def due(self, now_ns: int) -> bool:
        return self.on and now_ns - self._last_ns >= self.period_ns

    def missed(self, now_ns: int) -> bool:
        gap_ns, self._last_ns = now_ns - self._last_ns, now_ns
        return gap_ns > MISSED_LOOKS * max(self.period_ns, int(LONGEST_LOOK_S * 1e9))


class CancelledWatch:
    """Workers that hold nothing but cancelled entries, and for too long.

    Args:
        channel: Its snapshot says who holds what; one that shows nothing has no lingering workers.
        after_s: How long a worker may go on; inf: for ever.
    """

    def __init__(self, channel: Channel, after_s: float) -> None:
        self._channel = channel
        self._rounds = _Rounds(after_s)
        self._since_ns: dict[int, int] = {}  # entry -> when it was first seen cancelled and held
        self.period_ns = self._rounds.period_ns if self._rounds.on else int(LONGEST_LOOK_S * 1e9)

    def lingering(self, now_ns: int) -> list[Lingering]:
        """Return the workers to end now, each with the entry that it goes on with."""
        if not self._rounds.due(now_ns):
            return []
        if self._rounds.missed(now_ns):
            self._since_ns.clear()
        if not self._channel.statistics().claimed:
            self._since_ns.clear()
            return []
        held = [entry for entry in self._channel.snapshot() if entry.state.upper() in HELD]
        cancelled = {entry.id for entry in held if entry.cancelled}
        self._since_ns = {one: self._since_ns.get(one, now_ns) for one in cancelled}
        # Who also works for somebody is left alone: his neighbours in a batch would pay for it.
        busy = {entry.owner for entry in held if not entry.cancelled}
        found: dict[int, Lingering] = {}
        for entry in held:
            over_ns = now_ns - self._since_ns.get(entry.id, now_ns) - self._rounds.limit_ns
            if entry.owner < 0 or entry.owner in busy or over_ns < 0:
                continue
            found.setdefault(entry.owner, Lingering(entry.owner, entry.id, over_ns // 1_000_000))
        return list(found.values())


class _FrontSeen(msgspec.Struct, frozen=True):
    """A front's last beat, since when we see that one, and whether it has beaten again after it said READY."""

    pid: int
    beat_ns: int
    since_ns: int
    has_beaten: bool = False


class FrontWatch:
    """Fronts that serve and have stopped to beat: their event loop stands still, or they were stopped.

    One that says READY and has not beaten since may still be busy with the start-up of a user's app: it has `START_UP_NS`.
    """

    def __init__(self, roster: Roster, after_s: float) -> None:
        self._roster = roster
        self._rounds = _Rounds(after_s)
        self._seen: dict[int, _FrontSeen] = {}

    def silent(self, now_ns: int) -> list[Lingering]:
        """Return the fronts to end now."""
        if not self._rounds.due(now_ns):
            return []
        missed = self._rounds.missed(now_ns)
        found = []
        for index in range(self._roster.fronts):
            pid, beat_ns = self._roster.pid(index), self._roster.last_beat_ns(index)
            before = self._seen.get(index)
            if not pid or self._roster.state(index) != ProcessState.READY:
                self._seen.pop(index, None)
            elif before is None or before.pid != pid:
                self._seen[index] = _FrontSeen(pid, beat_ns, now_ns)
            elif before.beat_ns != beat_ns or missed:
                has_beaten = before.has_beaten or before.beat_ns != beat_ns
                self._seen[index] = _FrontSeen(pid, beat_ns, now_ns, has_beaten)
            elif now_ns - before.since_ns >= self._patience_ns(before):
                found.append(Lingering(index, 0, (now_ns - beat_ns) // 1_000_000))
        return found

    def _patience_ns(self, seen: _FrontSeen) -> int:
        limit_ns = self._rounds.limit_ns
        return limit_ns if seen.has_beaten else max(limit_ns, START_UP_NS)


class Verdict(msgspec.Struct, frozen=True):
    """A process to end: `what` and `details` are the log line around its pid."""

    role: Role
    index: int
    what: str
    details: str


class Watches:
    """All that look for processes to end."""

    def __init__(self, channel: Channel, roster: Roster, limits: Limits) -> None:
        self._stalls = StallWatch(channel, roster, limits.execution_timeout_s)
        self._cancelled = CancelledWatch(channel, limits.kill_cancelled_after_s)
        self._fronts = FrontWatch(roster, limits.front_timeout_s)
        self.period_ns = min(self._stalls.period_ns, self._cancelled.period_ns)

    def verdicts(self, now_ns: int) -> list[Verdict]:
        """Return the processes to end now."""
        found = [
            _verdict("worker", "worker stalled: worker", one.worker, one.entry_id, one.overdue_ms)
            for one in self._stalls.stalled(now_ns)
        ]
        found += [
            _verdict("worker", "worker goes on with what is cancelled: worker", *one)
            for one in map(msgspec.structs.astuple, self._cancelled.lingering(now_ns))
        ]
        for front in self._fronts.silent(now_ns):
            what = f"front silent: front={front.index}"
            found.append(Verdict("front", front.index, what, f"overdue_ms={front.overdue_ms}"))
        return found


def _verdict(role: Role, what: str, index: int, entry_id: int, overdue_ms: int) -> Verdict:
    return Verdict(role, index, f"{what}={index}", f"entry={entry_id} overdue_ms={overdue_ms}")
