# SPDX-License-Identifier: Apache-2.0
"""Why a front did not take a request: a short, fixed list, so that each front can count in words of its own.

Flow:  front/lane.py, auth.py, limits.py -> Desk.reject(code) -> Roster.count_rejection -> /metrics
Owns:  nothing.
"""

from __future__ import annotations

# Only ever appended to: the number of a reason is its word in the roster.
REASONS = (
    "other",
    "queue_full",  # max_queue
    "slots_full",  # as many under way as there are slots
    "channel_full",  # no room in the arena, or, of other channels, none at all
    "too_large",
    "not_authenticated",
    "wrong_api_key",
    "bad_header",  # X-Priority or X-Request-Timeout is no value
    "receive_timeout",  # its body took too long to come
    "starting",
    "channel_closed",  # the server is shutting down
)
WORDS = 16  # for each front

_NUMBERS = {reason: number for number, reason in enumerate(REASONS)} | {
    "entry_too_large": REASONS.index("too_large"),
    "payload_too_large": REASONS.index("too_large"),
}


def reason_number(code: str) -> int:
    """Return the number of an error's or failure's code."""
    return _NUMBERS.get(code, 0)
