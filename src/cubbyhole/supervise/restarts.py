# SPDX-License-Identifier: Apache-2.0
"""When a dead process is started again, and when that is hopeless. Pure policy: times come in, decisions go out.

Two kinds of death are told apart. A process that was ready and then died (a segfault on one input, the OOM killer) is
always started again, more slowly each time: giving up would let any client that finds such an input stop the server. A
process that never gets ready (`setup` raises) is given up after `budget` starts in a row, because waiting mends nothing.
"""

from __future__ import annotations

from collections import deque

FIRST_BACKOFF_S = (
    0.4  # the first restart is at once; a second death within the window is no accident
)
LONGEST_BACKOFF_S = 10.0
WINDOW_S = 60.0
BUDGET = 5


class RestartPolicy:
    """The history of one process place."""

    def __init__(self, budget: int = BUDGET, window_s: float = WINDOW_S) -> None:
        self.budget = budget
        self._window_ns = int(window_s * 1e9)
        self._deaths: deque[int] = deque()
        self._failed_starts = 0

    def backoff_s(self, died_ns: int, *, was_ready: bool) -> float | None:
        """Note a death and return the seconds to wait before the next start; None: give up."""
        while self._deaths and self._deaths[0] <= died_ns - self._window_ns:
            self._deaths.popleft()
        self._deaths.append(died_ns)
        self._failed_starts = 0 if was_ready else self._failed_starts + 1
        if self._failed_starts > self.budget:
            return None
        if len(self._deaths) == 1:
            return 0.0
        return float(min(FIRST_BACKOFF_S * 2 ** (len(self._deaths) - 2), LONGEST_BACKOFF_S))

    @property
    def recent(self) -> int:
        """Deaths within the window, the last one included."""
        return len(self._deaths)
