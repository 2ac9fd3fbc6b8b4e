# SPDX-License-Identifier: Apache-2.0
"""How many workers an endpoint should have, by the age of its queue. Pure policy: what is seen comes in, a number goes out.

A worker more, when the oldest waiting request has waited for `up_after_s` and no worker is on its way: one at a time, because a
model that loads answers nobody, and the queue tells nothing new meanwhile. A worker less, when one of them was not needed for all of
`down_after_s`: at no look in that time did anything wait, or were all of them busy. The two conditions exclude each other, and the
long time lies between them, so that a burst does not start and end the same worker again and again.

Flow:  supervise/scaling.py, at each look -> **ScalingPolicy.wanted**
Owns:  since when a worker is too many.
See:   docs/guide/operating.md
"""

from __future__ import annotations

import msgspec

UP_AFTER_S = 1.0  # a client does not mind waiting so long for once; less would answer every burst with a process
DOWN_AFTER_S = 60.0  # a model that loads in seconds is worth keeping for a minute


class Seen(msgspec.Struct, frozen=True):
    """An endpoint at one look.

    Attributes:
        oldest_wait_ns: How long the oldest ready request waits; 0: none does.
        running: Workers that hold a request.
        starting: Whether a worker is on its way.
    """

    oldest_wait_ns: int
    running: int
    starting: bool


class ScalingPolicy:
    """The history of one endpoint.

    Args:
        least, most: Bounds of the number.
        up_after_s: How long a request may wait before there is another worker.
        down_after_s: How long a worker must have been one too many.
    """

    def __init__(
        self,
        least: int,
        most: int,
        up_after_s: float = UP_AFTER_S,
        down_after_s: float = DOWN_AFTER_S,
    ) -> None:
        self.least = least
        self.most = most
        self._up_after_ns = int(up_after_s * 1e9)
        self._down_after_ns = int(down_after_s * 1e9)
        self._idle_since_ns: int | None = None

    def forget(self) -> None:
        """Begin anew: somebody else decided meanwhile."""
        self._idle_since_ns = None

    def wanted(self, now_ns: int, present: int, seen: Seen) -> int:
        """Return how many workers there should be, where `present` were wanted so far."""
        bounded = min(max(present, self.least), self.most)
        if seen.oldest_wait_ns or seen.running >= bounded or seen.starting:
            self._idle_since_ns = None
            late = seen.oldest_wait_ns > self._up_after_ns
            return min(bounded + 1, self.most) if late and not seen.starting else bounded
        if self._idle_since_ns is None:
            self._idle_since_ns = now_ns
        if now_ns - self._idle_since_ns < self._down_after_ns:
            return bounded
        self._idle_since_ns = now_ns  # the next one has to be idle as long again
        return max(bounded - 1, self.least)
