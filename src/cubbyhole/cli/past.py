# SPDX-License-Identifier: Apache-2.0
"""Requests that are over, as `cubbyhole requests --past` and `inspect` show them.

Flow:  AttachedServer.history -> **finished_row** -> cli/entries.py, the same shape as a request that is under way
Owns:  nothing.
See:   core/history.py
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cubbyhole.seen.phases import Phase, list_phases

if TYPE_CHECKING:
    from cubbyhole.cli.recorded import RecordedServer
    from cubbyhole.core.history import FinishedEntry
    from cubbyhole.seen.attached import AttachedServer


def finished_phases(entry: FinishedEntry) -> list[Phase]:
    """Return the phases that a finished request went through."""
    return list_phases(entry.times_ns, entry.over_ns, over=True)


def finished_row(attached: AttachedServer | RecordedServer, entry: FinishedEntry) -> dict[str, Any]:
    """Return a finished request as one flat mapping, with the keys of one that is under way and a few more."""
    return {
        "id": entry.id,
        "endpoint": attached.path(entry.endpoint),
        "state": "over",
        "outcome": entry.outcome,
        "status": entry.status,
        "ended_ago_s": round(max(0, attached.now_ns() - entry.over_ns) / 1e9, 3),
        "age_ms": round((entry.over_ns - entry.times_ns[0]) / 1e6, 3),
        "deadline_left_ms": None,
        "rank": entry.rank,
        "front": entry.front,
        "worker": entry.worker if entry.worker >= 0 else None,
        "worker_pid": None,  # it may be another process by now
        "worker_process": None,
        "attempt": entry.attempt,
        "cancelled": entry.outcome == "cancelled",
        "request_bytes": entry.request_bytes,
        "result_bytes": entry.result_bytes,
        "chunks": entry.chunks,
        "failure": entry.failure or None,
        "phases_ms": {phase.name: round(phase.duration_ms, 3) for phase in finished_phases(entry)},
    }
