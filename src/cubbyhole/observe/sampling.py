# SPDX-License-Identifier: Apache-2.0
"""How many traces a front begins by itself: so many a second, then the rest is served without spans, at no cost.

A tree of spans takes about as long as ten of the shortest requests; at thousands of requests a second, spans of all of them would be
most of what the server does. A rate instead of a share, since a server with few requests should trace each of them.

Flow:  front/tracing.py -> **Admission.admits**
Owns:  the budget of one process.
See:   docs/guide/tracing.md
"""

from __future__ import annotations

import re

from cubbyhole.core.clock import NEVER_NS, now_ns

# version-trace-parent-flags; https://www.w3.org/TR/trace-context/#traceparent-header
_TRACEPARENT = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?"
)
_SAMPLED = 1


def read_traceparent(text: str) -> tuple[int, int, int] | None:
    """Return trace, span and flags of a `traceparent`; None: it is none."""
    match = _TRACEPARENT.fullmatch(text) if text else None
    return None if match is None else (int(match[1], 16), int(match[2], 16), int(match[3], 16))


class Admission:
    """Decides which requests are traced, before anything is made of them.

    Args:
        per_s: New traces a second; as many at once. None: all, it is the tracer's sampler that decides.

    Attributes:
        spent_until_ns: Until then there is no budget: whoever has to know it for each request need not call.
    """

    def __init__(self, per_s: float | None) -> None:
        self._per_s = per_s
        # The budget as one moment, which each trace moves on by an interval; a burst is what it may lie behind.
        self._interval_ns = int(1e9 / per_s) if per_s else 0
        self._burst_ns = int(max(per_s or 0.0, 1.0) - 1.0) * self._interval_ns
        self.spent_until_ns = -NEVER_NS if per_s is None else 0 if per_s else NEVER_NS
        self._submitted = 0  # with the last one that was traced

    def admits(self, traceparent: str) -> bool:
        """Return whether a request is to have spans: as its client says, else while there is budget.

        Args:
            traceparent: The client's header, which may be empty or broken.
        """
        if self._per_s is None:
            return True
        found = read_traceparent(traceparent)
        return self._take() if found is None else bool(found[2] & _SAMPLED)

    def left_out(self, submitted: int) -> int:
        """Return how many requests had no spans since the last one that had.

        Args:
            submitted: Requests of this front before the one that is traced now.
        """
        before, self._submitted = self._submitted, submitted + 1
        return max(submitted - before, 0)  # one that was turned away was not submitted

    def _take(self) -> bool:
        at_ns = now_ns()
        if self.spent_until_ns > at_ns:
            return False
        self.spent_until_ns = max(self.spent_until_ns, at_ns - self._burst_ns) + self._interval_ns
        return True
