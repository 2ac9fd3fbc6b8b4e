# SPDX-License-Identifier: Apache-2.0
"""How fast a large body is read: at full speed while nobody else waits, else in small turns with pauses between them.

An uploader on a fast network, or on the same machine, sends as fast as it is read. Reading it takes the front's time, and sending it
that of a core, which the worker of somebody else's small request may need. So large bodies step back while there is one under way.

Flow:  intake.read_body, straight.py -> **Pace**
Owns:  how much of one body was read since its last pause.
See:   docs/guide/raw-bodies.md, docs/decisions/0061-large-bodies-step-back.md
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cubbyhole.core.clock import now_ns

if TYPE_CHECKING:
    from collections.abc import Callable

    from cubbyhole.front.exchange import ExchangeStatistics

# What is read of a body at once. Alone: a larger one saves nothing more. Beside others, with the pause: 128 to 256 MB/s for each body,
# as a loop's timers count whole milliseconds. What that does to the others is measured by `python -m bench clients --only uploads`.
ALONE_TURN_BYTES = 1024 * 1024
BUSY_TURN_BYTES = 256 * 1024
BUSY_PAUSE_S = 0.001
# For so long after another request was seen: between two looks it may have come and gone, and its client is about to send the next.
BUSY_FOR_NS = 10_000_000


class Pace:
    """The pace of one body.

    Args:
        count: The front's figures.
    """

    __slots__ = ("_busy_until_ns", "_count", "_seen_total", "_since_pause_bytes")

    def __init__(self, count: Callable[[], ExchangeStatistics]) -> None:
        self._count = count
        self._seen_total = count().submitted_total
        self._busy_until_ns = 0
        self._since_pause_bytes = 0

    def turn_bytes(self) -> int:
        """Return how much may be read at once."""
        return BUSY_TURN_BYTES if self._is_busy() else ALONE_TURN_BYTES

    def pause_s(self, read_bytes: int) -> float:
        """Return for how long to read nothing, after so many bytes more were read; 0: go on."""
        self._since_pause_bytes += read_bytes
        if self._since_pause_bytes < BUSY_TURN_BYTES:
            return 0.0
        self._since_pause_bytes = 0
        return BUSY_PAUSE_S if self._is_busy() else 0.0

    def _is_busy(self) -> bool:
        figures = self._count()
        if figures.waiting or figures.submitted_total != self._seen_total:
            self._seen_total = figures.submitted_total
            self._busy_until_ns = now_ns() + BUSY_FOR_NS
            return True
        return self._busy_until_ns > 0 and now_ns() < self._busy_until_ns
