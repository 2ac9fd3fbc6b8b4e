# SPDX-License-Identifier: Apache-2.0
"""One look at a server as plain data, in sections that are sent only where they changed.

Flow:  AttachedServer -> **Picture.take** -> {section: value} -> snapshots.py -> server-sent events
Owns:  what must be compared with the look before: CPU times, phases.

Numbers for a page: times are milliseconds of the monotonic clock, ids and ranks are text (a browser's numbers end at 2**53).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import msgspec

from cubbyhole.core.clock import NEVER_NS, now_ns
from cubbyhole.core.statistics import EntrySnapshot
from cubbyhole.inspector.spans import Spans
from cubbyhole.seen.process_state import is_there, read_usage
from cubbyhole.seen.stuck import why_stuck

if TYPE_CHECKING:
    from cubbyhole.core.failures import FailureRecord
    from cubbyhole.core.history import FinishedEntry
    from cubbyhole.seen.attached import AttachedServer
    from cubbyhole.seen.process_state import Usage

FINISHED_SHOWN = 200  # the last ones, beside those that are under way
ENTRIES_MOST = (
    2000  # under way, the oldest: what is stuck is among them, and a page of more is not read
)
FAILURES_SHOWN = 100
LOOK_BACK_NS = 1_000_000_000
MEMORY_STEP_BYTES = (
    100_000  # as far as a page shows it: so a section changes only where something is to be seen
)
CLASS_NS = 1_000_000_000  # what one priority class is worth in a rank, see scheduling/policy.py
_RUNNING = ("CLAIMED", "STREAMING")
_AT_REST = ("READY", "FREE")


class Picture:
    """Looks at one server again and again."""

    def __init__(self, attached: AttachedServer, entries_most: int = ENTRIES_MOST) -> None:
        self.attached = attached
        self._entries_most = entries_most
        self._rows: dict[int, tuple[EntrySnapshot, dict[str, Any]]] = {}
        self.spans = Spans()
        self._before: dict[int, tuple[int, float]] = {}  # pid -> when, CPU seconds
        self._cpu: dict[int, int] = {}
        self._finished: list[EntrySnapshot] = []
        self._looked_back_ns = self._counted_ns = 0
        self._about: dict[str, Any] = {}

    def take(self) -> dict[str, Any]:
        """Return the server as it is now."""
        attached, time_ns = self.attached, now_ns()
        under_way = self._entries(time_ns)
        self.count(time_ns)
        usages = self._usages(time_ns)
        alive = is_there(attached.description.pid)
        return {
            "now": time_ns / 1e6,
            "state": attached.roster.state(attached.roster.supervisor).name if alive else "GONE",
            "numbers": msgspec.to_builtins(attached.statistics()),
            "processes": self._processes(under_way, usages, time_ns),
            "queues": self._queues(under_way),
            "entries": self._table(under_way[: self._entries_most], usages, time_ns),
            "under_way": len(under_way),
            "left_out": max(0, len(under_way) - self._entries_most),
            "failures": [
                failure_row(record, time_ns) for record in attached.failures()[-FAILURES_SHOWN:]
            ],
            "spans": self.spans.shown(),
        }

    def count(self, time_ns: int) -> None:
        """Look at the histograms, once a second; also while nobody looks, so that there is a minute to look back on."""
        if time_ns - self._counted_ns >= LOOK_BACK_NS:
            self._counted_ns = time_ns
            self.spans.look(time_ns, self.attached.histograms())

    def about(self) -> dict[str, Any]:
        """Return what does not change while the server lives."""
        if self._about.get("edges"):
            return self._about
        about = self.attached.description
        self._about = {
            "pid": about.pid,
            "version": about.version,
            "started": about.started_s,
            "address": about.address,
            "channel": about.channel,
            "endpoints": list(about.endpoints),
            "orders": bool(getattr(about, "admin", "")),
            "edges": self.spans.edges_ms(),
        }
        return self._about

    def detail(self, request_id: int) -> dict[str, Any] | None:
        """Return one request whole; None: nothing of it is kept."""
        attached, time_ns = self.attached, now_ns()
        kept = [*attached.entries(), *map(finished_entry, attached.history())]
        entry = next((e for e in kept if e.id == request_id), None)
        record = next((r for r in attached.failures() if r.id == request_id), None)
        if entry is None and record is None:
            return None
        found: dict[str, Any] = {"now": time_ns / 1e6}
        if entry is not None:
            found["entry"] = self._row(entry, self._usages(time_ns), time_ns)
            found["times"] = [time / 1e6 for time in _times(entry)]
        if record is not None:
            found["failure"] = {
                **failure_row(record, time_ns),
                "traceback": record.traceback_text,
            }
            found.setdefault("times", [time / 1e6 for time in record.times_ns])
        return found

    def _entries(self, time_ns: int) -> list[EntrySnapshot]:
        """Return what is under way; once a second look at what finished, too, which takes longer."""
        if time_ns - self._looked_back_ns < LOOK_BACK_NS:
            return self.attached.entries()
        self._looked_back_ns = time_ns
        self._finished = [finished_entry(past) for past in self.attached.history(FINISHED_SHOWN)]
        return self.attached.entries()

    def _usages(self, time_ns: int) -> dict[int, Usage | None]:
        roster = self.attached.roster
        pids = [roster.pid(cell) for cell in range(roster.fronts + roster.workers)]
        usages = {pid: read_usage(pid) for pid in pids if pid}
        for pid, usage in usages.items():
            when_ns, cpu_s = self._before.get(pid, (0, 0.0))
            if usage is not None and time_ns - when_ns >= 1_000_000_000:
                seconds = (time_ns - when_ns) / 1e9
                self._cpu[pid] = round((usage.cpu_s - cpu_s) / seconds * 100) if when_ns else 0
                self._before[pid] = (time_ns, usage.cpu_s)
        return usages

    def _processes(
        self, under_way: list[EntrySnapshot], usages: dict[int, Usage | None], time_ns: int
    ) -> list[dict[str, Any]]:
        roster, about = self.attached.roster, self.attached.description
        held: dict[int, list[EntrySnapshot]] = {}
        for entry in under_way:  # oldest first
            if entry.owner >= 0 and entry.state in _RUNNING:
                held.setdefault(entry.owner, []).append(entry)
        places = [("front", index, index, None) for index in range(roster.fronts)]
        places += [
            ("worker", index, roster.worker_cell(index), place)  # type: ignore[misc]
            for index, place in enumerate(about.workers)
        ]
        found = []
        for role, index, cell, place in places:
            pid = roster.pid(cell)
            usage = usages.get(pid)
            has = held.get(index, []) if role == "worker" else []
            beat_ns = roster.last_beat_ns(cell)
            found.append(
                {
                    "role": role,
                    "index": index,
                    "endpoint": place.endpoint if place else None,
                    "device": place.device if place else "",
                    "state": roster.state(cell).name.lower(),
                    "pid": pid,
                    "kernel": usage.word if usage else "dead",
                    "cpu": self._cpu.get(pid, 0),
                    "bytes": _rounded(usage.resident_bytes) if usage else 0,
                    "silent_s": max(0, (time_ns - beat_ns) // 1_000_000_000) if beat_ns else None,
                    "restarts": roster.restarts(cell),
                    "holds": [str(entry.id) for entry in has[:3]],
                    "held": len(has),
                }
            )
        return found

    def _queues(self, under_way: list[EntrySnapshot]) -> list[dict[str, Any]]:
        found = []
        for number in range(len(self.attached.description.endpoints)):
            here = [entry for entry in under_way if entry.endpoint == number]
            waiting = [entry for entry in here if entry.state == "READY"]
            classes: dict[str, int] = {}
            for entry in waiting:
                name = class_of(entry)
                classes[name] = classes.get(name, 0) + 1
            found.append(
                {
                    "endpoint": number,
                    "waiting": len(waiting),
                    "running": sum(entry.state in _RUNNING for entry in here),
                    "oldest": waiting[0].received_ns / 1e6 if waiting else None,
                    "classes": dict(sorted(classes.items())),
                }
            )
        return found

    def _table(
        self, under_way: list[EntrySnapshot], usages: dict[int, Usage | None], time_ns: int
    ) -> dict[str, dict[str, Any]]:
        """Return the rows by id; a row of the look before stays where it cannot have changed, as with most of a long queue."""
        rows = {}
        for entry in (*self._finished, *under_way):  # the later wins: a slot may be in both looks
            before = self._rows.get(entry.id)
            late = entry.state == "READY" and 0 < entry.deadline_ns < time_ns
            rests = entry.state in _AT_REST and not late
            # What is over is the same object until the next look back.
            if before and (before[0] is entry or (rests and before[0] == entry)):
                rows[entry.id] = before
            else:
                rows[entry.id] = (entry, self._row(entry, usages, time_ns))
        self._rows = rows
        return {row["id"]: row for _, row in rows.values()}

    def _row(
        self, entry: EntrySnapshot, usages: dict[int, Usage | None], time_ns: int
    ) -> dict[str, Any]:
        over = entry.state == "FREE"
        return {
            "id": str(entry.id),
            "endpoint": entry.endpoint,
            "state": "over" if over else entry.state.lower(),
            "received": entry.received_ns / 1e6,
            "claimed": entry.claimed_ns / 1e6,
            "ended": (entry.done_ns or entry.received_ns) / 1e6 if over else None,
            "deadline": None if not 0 < entry.deadline_ns < NEVER_NS else entry.deadline_ns / 1e6,
            "rank": str(entry.rank),
            "class": class_of(entry),
            "front": entry.front,
            "worker": entry.owner if entry.owner >= 0 else None,
            "attempt": entry.attempt + 1,
            "cancelled": entry.cancelled,
            "in": entry.request_bytes,
            "out": entry.result_bytes,
            "chunks": entry.chunks,
            "status": entry.status,
            "failure": entry.failure,
            "stuck": "" if over else self._why_stuck(entry, usages, time_ns),
        }

    def _why_stuck(
        self, entry: EntrySnapshot, usages: dict[int, Usage | None], time_ns: int
    ) -> str:
        roster = self.attached.roster
        cell = roster.worker_cell(entry.owner) if entry.owner >= 0 else -1
        usage = usages.get(roster.pid(cell)) if cell >= 0 else None
        beat_ns = roster.last_beat_ns(cell) if cell >= 0 else 0
        return why_stuck(
            entry,
            time_ns,
            worker_word="" if cell < 0 else usage.word if usage else "dead",
            beat_age_ns=time_ns - beat_ns if beat_ns else 0,
            usual_ns=self.spans.usual_ns(entry.endpoint),
        )


def failure_row(record: FailureRecord, time_ns: int) -> dict[str, Any]:
    """Return a failure without its traceback."""
    return {
        "id": str(record.id),
        "request_id": record.request_id,
        "endpoint": record.endpoint,
        "code": record.code,
        "status": record.status,
        "message": record.message,
        "worker": record.worker if record.worker >= 0 else None,
        "attempt": record.attempt + 1,
        "failed": record.failed_ns / 1e6,
        "at": time.time() - (time_ns - record.failed_ns) / 1e9
        if not record.failed_at_s
        else record.failed_at_s,
    }


def finished_entry(past: FinishedEntry) -> EntrySnapshot:
    """Return a request that is over in the form of those that are not."""
    received, ready, claimed, first_chunk, done = past.times_ns
    return EntrySnapshot(
        id=past.id,
        endpoint=past.endpoint,
        state="FREE",
        front=past.front,
        owner=past.worker,
        attempt=past.attempt,
        rank=past.rank,
        cancelled=past.outcome == "cancelled",
        deadline_ns=past.deadline_ns,
        request_bytes=past.request_bytes,
        result_bytes=past.result_bytes,
        chunks=past.chunks,
        received_ns=received,
        ready_ns=ready,
        claimed_ns=claimed,
        first_chunk_ns=first_chunk,
        done_ns=done,
        failure=past.failure,
        status=past.status,
    )


def class_of(entry: EntrySnapshot) -> str:
    """Return an entry's priority class as its rank says it, "" without priorities, "deadline" where that comes first."""
    before_ns = entry.rank - entry.received_ns
    if before_ns == 0:
        return ""
    number, rest = divmod(before_ns, CLASS_NS)
    return str(number) if not rest and 0 < number <= 9 else "deadline"


def _rounded(size_bytes: int) -> int:
    return round(size_bytes / MEMORY_STEP_BYTES) * MEMORY_STEP_BYTES


def _times(entry: EntrySnapshot) -> tuple[int, ...]:
    return (
        entry.received_ns,
        entry.ready_ns,
        entry.claimed_ns,
        entry.first_chunk_ns,
        entry.done_ns,
    )
