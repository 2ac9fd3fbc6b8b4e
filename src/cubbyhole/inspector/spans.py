# SPDX-License-Identifier: Apache-2.0
"""How long requests were in each phase, by endpoint: the segment's own histograms, made small for a page.

Flow:  AttachedServer.histograms -> **Spans.look** -> the page's histograms, and what counts as unusually long (seen/stuck.py)
Owns:  what the histograms were at moments of the last minute, so that the minute can be told from all before it.

Fronts count every request when they are done with it, so nothing is a sample here, and nothing begins with the first viewer: `cubbyhole
stats` and `/metrics` read the same counts.
"""

from __future__ import annotations

from collections import deque
from itertools import accumulate
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cubbyhole.core.history import EndpointHistograms, Histogram

# As `cubbyhole stats` calls them -> field of EndpointHistograms. The first four are a request's time, one after another.
PHASES = {
    "intake": "intake",
    "queue": "queue",
    "run": "execute",
    "collect": "collect",
    "total": "request",
    "first chunk": "first_chunk",
    "batch wait": "batch_wait",
}
SPENT = ("intake", "queue", "run", "collect")
WINDOWS = ("start", "minute")
MERGED = 2  # buckets of the segment in one bar: five to a decade is as fine as a chart of that size can show
STEP_NS = 5_000_000_000  # between two moments that are kept
KEPT = 13  # so that the oldest is a minute ago
LEAST_FOR_USUAL = 10


class Spans:
    """The phases of what came to an end: since the server was started, and in the last minute."""

    def __init__(self) -> None:
        self._now: dict[int, EndpointHistograms] = {}
        self._kept: deque[tuple[int, dict[int, EndpointHistograms]]] = deque(maxlen=KEPT)
        # Of the last look: every row asks for the one, and the pictures of a second for the other.
        self._usual_ns: dict[int, int] = {}
        self._shown_last: list[dict[str, Any]] | None = None

    def look(self, time_ns: int, histograms: Iterable[EndpointHistograms]) -> None:
        """Take what is counted now."""
        self._usual_ns, self._shown_last = {}, None
        self._now = {one.endpoint: one for one in histograms}
        if not self._kept or time_ns - self._kept[-1][0] >= STEP_NS:
            self._kept.append((time_ns, self._now))

    def edges_ms(self) -> list[float]:
        """Return the upper edges of all bars in ms, but of the last, which has none."""
        for one in self._now.values():
            return [round(bound * 1e3, 4) for bound in one.request.bounds[::MERGED]]
        return []

    def usual_ns(self, endpoint: int) -> int:
        """Return what nine of ten runs took at most, of the last minute where there were enough; 0: too few to say."""
        known = self._usual_ns.get(endpoint)
        if known is None:
            known = self._usual_ns[endpoint] = self._count_usual_ns(endpoint)
        return known

    def _count_usual_ns(self, endpoint: int) -> int:
        for window in reversed(WINDOWS):
            runs = self._histogram(endpoint, "run", window)
            if runs is not None and runs.count >= LEAST_FOR_USUAL:
                return int(runs.quantile(0.9) * 1e9)
        return 0

    def shown(self) -> list[dict[str, Any]]:
        """Return, for each endpoint and window, how requests ended and how long they were in each phase; times in ms."""
        if self._shown_last is None:
            self._shown_last = [
                self._shown(endpoint, window)
                for endpoint in sorted(self._now)
                for window in WINDOWS
            ]
        return self._shown_last

    def _shown(self, endpoint: int, window: str) -> dict[str, Any]:
        now, before = self._now[endpoint], self._before(endpoint, window)
        outcomes = {
            name: count - (before.outcomes[name] if before is not None else 0)
            for name, count in now.outcomes.items()
        }
        found = {name: self._histogram(endpoint, name, window) for name in PHASES}
        spent_s = sum(one.total for name, one in found.items() if one and name in SPENT)
        return {
            "endpoint": endpoint,
            "window": window,
            "outcomes": {name: count for name, count in outcomes.items() if count > 0},
            "phases": [
                {
                    "phase": name,
                    "share": round(one.total / spent_s, 4) if spent_s and name in SPENT else None,
                    **bars(one),
                }
                for name, one in found.items()
                if one is not None and one.count
            ],
        }

    def _before(self, endpoint: int, window: str) -> EndpointHistograms | None:
        """Return what there was when a window began; None: nothing that counts."""
        return self._kept[0][1].get(endpoint) if window == "minute" and self._kept else None

    def _histogram(self, endpoint: int, phase: str, window: str) -> Histogram | None:
        now = self._now.get(endpoint)
        if now is None:
            return None
        histogram: Histogram = getattr(now, PHASES[phase])
        before = self._before(endpoint, window)
        return histogram if before is None else histogram.since(getattr(before, PHASES[phase]))


def bars(histogram: Histogram) -> dict[str, Any]:
    """Return a histogram as bars: the first one that is not empty by its number, and all from there to the last one."""
    counts = list(accumulate(histogram.counts))
    ends = [*range(0, len(counts), MERGED), len(counts) - 1]
    sums = [counts[end] for end in ends]
    merged = [here - before for here, before in zip(sums, [0, *sums], strict=False)]
    filled = [number for number, count in enumerate(merged) if count]
    first, last = (filled[0], filled[-1]) if filled else (0, 0)
    return {
        "first": first,
        "counts": merged[first : last + 1],
        "total": histogram.count,
        "mean": round(histogram.mean * 1e3, 4),
        **{
            name: round(histogram.quantile(part) * 1e3, 4)
            for name, part in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99))
        },
    }
