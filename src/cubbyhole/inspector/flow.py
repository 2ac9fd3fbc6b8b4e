# SPDX-License-Identifier: Apache-2.0
"""The last minute in numbers: what came, was answered and failed in each second, and how much was under way.

Flow:  snapshots.py, once a second, also while nobody looks -> **Flow.sample** -> the page's chart
Owns:  61 samples. They are differences of counters that live in the segment, so nothing in the server counts for this.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cubbyhole.core.statistics import ChannelStatistics

SECONDS = 60


class Flow:
    """A ring of samples, a second apart."""

    def __init__(self) -> None:
        self._points: deque[dict[str, Any]] = deque(maxlen=SECONDS)
        self._before: tuple[int, ChannelStatistics] | None = None

    def sample(self, now_ns: int, statistics: ChannelStatistics) -> None:
        """Take the counters; the first time there is nothing to compare them with."""
        before, self._before = self._before, (now_ns, statistics)
        if before is None:
            return
        seconds = max(1e-3, (now_ns - before[0]) / 1e9)

        def rate(*names: str) -> float:
            change = float(sum(getattr(statistics, n) - getattr(before[1], n) for n in names))
            return max(0.0, round(change / seconds, 2))

        self._points.append(
            {
                "at_ms": now_ns // 1_000_000,
                "arrivals": rate("submitted_total"),
                "answers": rate("published_total"),
                "failures": rate("failed_total"),
                "cancelled": rate("cancelled_total"),
                "chunks": rate("chunks_total"),
                "in_flight": statistics.slots_used,
            }
        )

    def points(self) -> list[dict[str, Any]]:
        """Return the samples, oldest first."""
        return list(self._points)
