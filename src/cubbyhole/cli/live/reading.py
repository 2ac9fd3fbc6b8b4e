# SPDX-License-Identifier: Apache-2.0
"""What the screen shows, as plain rows: read from the segment, computed from two looks.

Flow:  AttachedServer -> **Reader.look** each second -> Look -> app.py
Owns:  the counters of the last look, and a minute of rates for the sparklines.
See:   docs/guide/seeing.md

Nothing here asks the server anything: it reads memory and /proc, so it works while every process of the server hangs.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

import msgspec

from cubbyhole.cli.entries import row
from cubbyhole.cli.facts import duration
from cubbyhole.core.clock import now_ns
from cubbyhole.scheduling.policy import DEFAULT_CLASS, LEAST_URGENT, STEP_NS
from cubbyhole.seen.process_state import is_there, read_usage

if TYPE_CHECKING:
    from cubbyhole.core.statistics import ChannelStatistics, EntrySnapshot
    from cubbyhole.seen.attached import AttachedServer

KEPT_LOOKS = 60  # a minute, at a look a second
RUNNING = ("CLAIMED", "STREAMING")
ENTRIES_MOST = 2000  # the oldest: what is stuck is among them, and a look must not take longer the more there are
# As `cubbyhole stats` calls them -> field of EndpointHistograms.
PHASES = {
    "intake": "intake",
    "queue": "queue",
    "run": "execute",
    "collect": "collect",
    "total": "request",
}
PARTS = (0.5, 0.95, 0.99)


class Look(msgspec.Struct, kw_only=True):
    """One look at a server.

    Attributes:
        head: The server in one line, and its memory in another.
        rates: Name and what happened a second since the last look.
        lines: The same over the last minute, for the sparklines.
        processes, queues, latencies: Rows of cells.
        entries: A mapping each, oldest first: `entries.row`, and the class. At most `ENTRIES_MOST`.
        under_way: How many there are.
        alive: Whether the supervisor lives.
    """

    head: tuple[str, str]
    rates: dict[str, float]
    lines: dict[str, list[float]]
    processes: list[tuple[str, ...]]
    queues: list[tuple[str, ...]]
    latencies: list[tuple[str, ...]]
    entries: list[dict[str, Any]]
    under_way: int
    alive: bool


class _Before(msgspec.Struct, frozen=True):
    time_ns: int
    statistics: ChannelStatistics
    cpu_s: dict[int, float]


class Reader:
    """Looks at a server again and again."""

    def __init__(self, attached: AttachedServer) -> None:
        self.attached = attached
        self._before: _Before | None = None
        self._classes: dict[int, set[str]] = {}  # that were seen waiting: their rows stay
        self._lines: dict[str, deque[float]] = {
            name: deque(maxlen=KEPT_LOOKS) for name in ("requests", "failures", "waiting")
        }

    def look(self) -> Look:
        """Read everything once."""
        attached, time_ns = self.attached, now_ns()
        snapshots = attached.entries()
        statistics = attached.statistics()
        processes, cpu_s = self._processes(snapshots, time_ns)
        rates = self._rates(statistics, time_ns)
        self._before = _Before(time_ns, statistics, cpu_s)
        waiting = sum(entry.state == "READY" for entry in snapshots)
        for name, value in (
            ("requests", rates["requests"]),
            ("failures", rates["failures"]),
            ("waiting", float(waiting)),
        ):
            self._lines[name].append(value)
        alive = is_there(attached.description.pid)
        return Look(
            head=self._head(statistics, alive=alive),
            rates=rates,
            lines={name: list(values) for name, values in self._lines.items()},
            processes=processes,
            queues=queue_rows(attached, snapshots, time_ns, self._classes),
            latencies=latency_rows(attached),
            entries=[
                row(attached, entry) | {"class": class_of(entry)}
                for entry in snapshots[:ENTRIES_MOST]
            ],
            under_way=len(snapshots),
            alive=alive,
        )

    def _head(self, statistics: ChannelStatistics, *, alive: bool) -> tuple[str, str]:
        about, n = self.attached.description, statistics
        gone = "" if alive else "  THE SUPERVISOR IS GONE"
        memory = (
            f"arena {n.arena_used_bytes / 1e6:.1f} of {n.arena_bytes / 1e6:.0f} MB ({part(n.arena_used_bytes, n.arena_bytes)}) "
            f"in {n.blocks_used} blocks   slots {n.slots_used} of {n.slots} ({part(n.slots_used, n.slots)})   "
            f"answered {n.published_total:,}  failed {n.failed_total:,}  expired {n.expired_total:,}  "
            f"cancelled {n.cancelled_total:,}  reclaimed {n.reclaimed_total:,}"
        )
        first = f"cubbyhole {about.version}  supervisor {about.pid}  {about.address}  {about.channel}{gone}"
        return first, memory

    def _rates(self, now: ChannelStatistics, time_ns: int) -> dict[str, float]:
        before = self._before
        if before is None:
            return dict.fromkeys(("requests", "answers", "failures", "chunks"), 0.0)
        seconds = max(1e-3, (time_ns - before.time_ns) / 1e9)
        fields = {
            "requests": "submitted_total",
            "answers": "published_total",
            "failures": "failed_total",
            "chunks": "chunks_total",
        }
        return {
            name: (getattr(now, field) - getattr(before.statistics, field)) / seconds
            for name, field in fields.items()
        }

    def _processes(
        self, snapshots: list[EntrySnapshot], time_ns: int
    ) -> tuple[list[tuple[str, ...]], dict[int, float]]:
        attached, roster = self.attached, self.attached.roster
        held: dict[int, EntrySnapshot] = {}
        for entry in snapshots:  # oldest first
            if entry.owner >= 0:
                held.setdefault(entry.owner, entry)
        names = [(f"front {index}", index, -1) for index in range(roster.fronts)]
        plain = {place.device for place in attached.description.workers} <= {"cpu"}
        for index, place in enumerate(attached.description.workers):
            device = "" if plain else f" {place.device}"  # where it tells nothing apart
            name = f"worker {index} {attached.path(place.endpoint)}{device}"
            names.append((name, roster.worker_cell(index), index))
        rows: list[tuple[str, ...]] = []
        cpu_s: dict[int, float] = {}
        for name, cell, worker in names:
            pid = roster.pid(cell)
            usage = read_usage(pid) if pid else None
            busy = "-"
            if usage is not None:
                cpu_s[pid] = usage.cpu_s
                busy = self._busy(pid, usage.cpu_s, time_ns)
            beat_ns, one = roster.last_beat_ns(cell), held.get(worker)
            rows.append(
                (
                    name,
                    roster.state(cell).name.lower(),
                    str(pid or "-"),
                    usage.word if usage else "dead",
                    busy,
                    f"{usage.resident_bytes / 1e6:.0f}" if usage else "-",
                    f"{max(0, time_ns - beat_ns) / 1e9:.1f}" if beat_ns else "-",
                    str(roster.restarts(cell)),
                    f"…{one.id % 10**6:06} {duration((time_ns - one.received_ns) / 1e9)}"
                    if one
                    else "-",
                )
            )
        return rows, cpu_s

    def _busy(self, pid: int, cpu_s: float, time_ns: int) -> str:
        before = self._before
        if before is None or pid not in before.cpu_s:
            return "-"
        seconds = max(1e-3, (time_ns - before.time_ns) / 1e9)
        return f"{(cpu_s - before.cpu_s[pid]) / seconds * 100:.0f}"


def part(used: float, of: float) -> str:
    """Return a part as text."""
    return f"{used / of:.0%}" if of else "-"


def class_of(entry: EntrySnapshot) -> str:
    """Return the priority class that a rank stands for; "-" where entries are ranked by arrival, or by a near deadline."""
    classes, rest = divmod(entry.rank - entry.received_ns, STEP_NS)
    return str(classes) if rest == 0 and 0 < classes <= LEAST_URGENT else "-"


def queue_rows(
    attached: AttachedServer,
    snapshots: list[EntrySnapshot],
    time_ns: int,
    known: dict[int, set[str]] | None = None,
) -> list[tuple[str, ...]]:
    """Return a row for each endpoint, and for each class that waits there, where there are any.

    Args:
        attached: The server.
        snapshots: What is under way, oldest first.
        time_ns: When that was.
        known: By endpoint, the classes that have rows already; written to. None: only those that wait now.
    """
    rows: list[tuple[str, ...]] = []
    by_endpoint: dict[int, list[EntrySnapshot]] = {}
    for entry in snapshots:
        by_endpoint.setdefault(entry.endpoint, []).append(entry)
    for number, path in enumerate(attached.description.endpoints):
        here = by_endpoint.get(number, [])
        rows.append((path, "all", *_counts(here, time_ns)))
        by_class: dict[str, list[EntrySnapshot]] = {}
        for entry in here:
            by_class.setdefault(class_of(entry), []).append(entry)
        waiting = {name for name, some in by_class.items() if _waits(some)} - {"-"}
        classes = waiting | ({} if known is None else known).get(number, set())
        if known is not None:
            known[number] = classes
        if classes - {str(DEFAULT_CLASS)}:
            rows += [
                ("", name, *_counts(by_class.get(name, []), time_ns)) for name in sorted(classes)
            ]
    return rows


def _waits(entries: list[EntrySnapshot]) -> bool:
    return any(entry.state == "READY" for entry in entries)


def _counts(entries: list[EntrySnapshot], time_ns: int) -> tuple[str, str, str]:
    waiting = sum(entry.state == "READY" for entry in entries)
    running = sum(entry.state in RUNNING for entry in entries)
    oldest = duration((time_ns - entries[0].received_ns) / 1e9) if entries else "-"
    return str(waiting), str(running), oldest


def latency_rows(attached: AttachedServer) -> list[tuple[str, ...]]:
    """Return for each endpoint and phase the median and the high percentiles, over all requests since the start."""
    rows = []
    for one in attached.histograms():
        found = {name: getattr(one, field) for name, field in PHASES.items()}
        labels = [attached.path(one.endpoint), f"{found['total'].count:,} over"]
        for name, histogram in found.items():
            if histogram.count:
                label = labels.pop(0) if labels else ""
                parts = (duration(histogram.quantile(part)) for part in PARTS)
                rows.append((label, name, *parts))
    return rows
