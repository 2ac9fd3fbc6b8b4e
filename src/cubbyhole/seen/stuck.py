# SPDX-License-Identifier: Apache-2.0
"""Which entries look stuck, and why, in a few words that do not change with every look.

Flow:  entries, processes, what finished -> **why_stuck** -> the inspector's table
Owns:  nothing.

"Unusually long" is compared with what finished lately on the same endpoint: more than ten times the slowest of ten, and over a second.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cubbyhole.core.statistics import EntrySnapshot

SILENT_NS = (
    3_000_000_000  # a worker beats once a second while its loop turns, and not while `predict` runs
)
LONG_NS = 1_000_000_000
LONG_FACTOR = 10
_RUNNING = ("CLAIMED", "STREAMING")
_HALTED = ("stopped", "traced", "dead")


def why_stuck(
    entry: EntrySnapshot, now_ns: int, *, worker_word: str, beat_age_ns: int, usual_ns: int
) -> str:
    """Return why an entry looks stuck, or an empty text.

    Args:
        entry: Under way.
        now_ns: Monotonic.
        worker_word: What the kernel says of its worker, see `process_state`; empty: nobody has it.
        beat_age_ns: How long ago that worker showed that its loop turns; 0: nobody has it, or it has not yet.
        usual_ns: What nine of ten runs of this endpoint took at most; 0: not known.
    """
    late = "past its deadline" if 0 < entry.deadline_ns < now_ns else ""
    if entry.state == "READY":
        return late
    if entry.state not in _RUNNING:
        return ""
    if worker_word in _HALTED:
        return f"worker {worker_word}"
    run_ns = now_ns - entry.claimed_ns if entry.claimed_ns else 0
    if (
        late and entry.state == "CLAIMED"
    ):  # a stream that flows may outlive it: it is for the first chunk
        return late
    if usual_ns and run_ns > max(LONG_NS, LONG_FACTOR * usual_ns):
        return "runs unusually long"
    silent = beat_age_ns > SILENT_NS and run_ns > max(SILENT_NS, 2 * usual_ns)
    return "worker silent" if silent else ""
