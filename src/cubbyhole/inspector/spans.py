# SPDX-License-Identifier: Apache-2.0
"""How long requests spent in each phase, by endpoint: histograms over what finished lately.

Flow:  AttachedServer.history -> **Spans.look** -> the page's histograms, and what counts as unusually long (seen/stuck.py)
Owns:  counts by phase, and the ids that are counted already.

The source is the history that fronts keep in the segment, of bounded length. On a busy server more finishes between two looks than it
holds, so what is counted is then a sample; and it begins when somebody looks. `cubbyhole stats` and `/metrics` count everything.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cubbyhole.core.statistics import EntrySnapshot

# Upper edges in ms: 0.1 ms to 100 s, five to a decade, which is as fine as a chart of that size can show.
EDGES_MS = tuple(round(0.1 * 10 ** (step / 5), 4) for step in range(31))
PHASES = ("queue", "run", "total")
LEAST_FOR_USUAL = 10


class Spans:
    """Histograms of the phases of finished entries."""

    def __init__(self) -> None:
        self._counts: dict[tuple[int, str], list[int]] = {}
        self._seen: set[int] = set()

    def look(self, finished: Iterable[EntrySnapshot]) -> None:
        """Count entries that were not counted yet."""
        here = set()
        for entry in finished:
            here.add(entry.id)
            if entry.id in self._seen or not (entry.done_ns and entry.claimed_ns):
                continue
            self._count(entry.endpoint, "queue", entry.claimed_ns - entry.ready_ns)
            self._count(entry.endpoint, "run", entry.done_ns - entry.claimed_ns)
            self._count(entry.endpoint, "total", entry.done_ns - entry.received_ns)
        self._seen = here  # an id that is not there any more does not come back

    def _count(self, endpoint: int, phase: str, duration_ns: int) -> None:
        counts = self._counts.setdefault((endpoint, phase), [0] * (len(EDGES_MS) + 1))
        counts[bisect_left(EDGES_MS, duration_ns / 1e6)] += 1

    def usual_ns(self, endpoint: int) -> int:
        """Return what nine of ten runs took at most; 0: too few to say."""
        counts = self._counts.get((endpoint, "run"), [])
        if sum(counts) < LEAST_FOR_USUAL:
            return 0
        return int(quantile_ms(counts, 0.9) * 1e6)

    def shown(self) -> list[dict[str, Any]]:
        """Return all histograms."""
        return [
            {
                "endpoint": endpoint,
                "phase": phase,
                "counts": counts,
                "total": sum(counts),
                "p50": quantile_ms(counts, 0.5),
                "p90": quantile_ms(counts, 0.9),
                "p99": quantile_ms(counts, 0.99),
            }
            for (endpoint, phase), counts in sorted(self._counts.items())
        ]


def quantile_ms(counts: list[int], part: float) -> float:
    """Return about the value that a part of all did not exceed: between the edges of its bucket as if that were filled evenly."""
    wanted, passed = part * sum(counts), 0
    for index, count in enumerate(counts):
        if count and passed + count >= wanted:
            if index == len(EDGES_MS):
                break
            low = EDGES_MS[index - 1] if index else 0.0
            return round(low + (EDGES_MS[index] - low) * max(0.0, wanted - passed) / count, 4)
        passed += count
    return EDGES_MS[-1] if passed or wanted else 0.0
