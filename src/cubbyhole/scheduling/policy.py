# SPDX-License-Identifier: Apache-2.0
"""The order in which ready entries are claimed: pure functions, times in, a rank out.

A rank is a time, the moment by which an entry wants to be claimed; the channel claims the smallest first, ties by arrival:

    rank = min(received + class x 1 s, deadline)

So ageing is built in and nothing starves: whatever arrives later than `rank` can never come before it. An entry of class 9 waits at
most for those that arrive within the nine seconds after it. A near deadline comes before a better class (earliest deadline first).
Without priorities the rank is the arrival itself: first come, first served, over all fronts.

See:   docs/guide/priorities.md, decision 0009 (ranks beside the slots)
"""

from __future__ import annotations

import math

MOST_URGENT = 0
LEAST_URGENT = 9
DEFAULT_CLASS = 5  # as RFC 9218: a smaller number is more urgent, and there is room on both sides
STEP_NS = 1_000_000_000  # what one class is worth, in waiting


def rank(received_ns: int, priority: int, deadline_ns: int) -> int:
    """Return the rank of an entry.

    Args:
        received_ns: When its request came, monotonic ns.
        priority: Its class, 0 (most urgent) to 9; others are taken as the nearest of these.
        deadline_ns: When its answer is too late, monotonic ns.
    """
    priority = min(max(priority, MOST_URGENT), LEAST_URGENT)
    return min(received_ns + priority * STEP_NS, deadline_ns)


def parse_priority(value: bytes) -> int:
    """Read the header X-Priority.

    Raises:
        ValueError: not one digit.
    """
    if len(value) != 1 or not value.isdigit():
        raise ValueError("X-Priority must be a number from 0 (most urgent) to 9.")
    return int(value)


def parse_timeout_s(value: bytes) -> float:
    """Read the header X-Request-Timeout, in seconds.

    Raises:
        ValueError: not a number above 0.
    """
    try:
        timeout_s = float(value)
    except ValueError:
        timeout_s = math.nan
    if not timeout_s > 0:
        raise ValueError("X-Request-Timeout must be a number of seconds above 0.")
    return timeout_s
