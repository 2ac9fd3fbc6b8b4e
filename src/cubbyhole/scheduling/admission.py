# SPDX-License-Identifier: Apache-2.0
"""Saying no at once: what a client gets when an entry finds no place, and when it should come again.

A queue without an end only moves the failure to the client's own timeout, after the work was paid for. So the place in the channel
is the ticket: with one, a request is served within its deadline; without, it is told when to come again.

503 where the server is full, whoever asks; 429 where this client has as many under way as it may, and others are still served.

See:   docs/reliability.md
"""

from __future__ import annotations

import math

from cubbyhole.core.entries import Failure
from cubbyhole.core.errors import ChannelFull, CubbyholeError

SHORTEST_S = 1  # the smallest value of the header; slots turn over in milliseconds to seconds
LONGEST_S = 60  # a guess over more than that is none; whoever comes then finds out
WINDOW_NS = 5_000_000_000  # the rate is that of the last 5 to 10 seconds


class QueueFull(ChannelFull):
    """As many requests are under way as `max_queue` allows."""

    code = "queue_full"


class BytesFull(QueueFull):
    """The requests under way are as large as `max_queue_bytes` allows."""

    code = "queue_bytes_full"


class KeyQueueFull(CubbyholeError):
    """One client has as many requests under way as `max_queue_per_key` allows."""

    code = "key_queue_full"
    status = 429


class AnswerRate:
    """How many answers a front gives in a second, from a counter that somebody reads now and then."""

    def __init__(self) -> None:
        self._old: tuple[int, int] | None = None  # (when, count)
        self._young: tuple[int, int] | None = None

    def note(self, answered: int, now_ns: int) -> None:
        """Say how many answers there were until now."""
        if self._young is None:
            self._old = self._young = (now_ns, answered)
        elif now_ns - self._young[0] >= WINDOW_NS:
            self._old, self._young = self._young, (now_ns, answered)

    def pause(self) -> None:
        """Nobody waits: what follows is not counted as slow."""
        self._old = self._young = None

    def per_s(self, answered: int, now_ns: int) -> float:
        """Return the rate, at most; 0 if nothing is known.

        With no answer within the time that was looked at, the rate is below one in that time.
        """
        if self._old is None or now_ns <= self._old[0]:
            return 0.0
        since_ns, before = self._old
        return max(answered - before, 1) / ((now_ns - since_ns) / 1e9)


def retry_after_s(waiting: int, rate_per_s: float) -> int:
    """Return the seconds after which what waits now is answered, 1 to 60.

    Args:
        waiting: Requests under way.
        rate_per_s: Answers per second; 0: not known.
    """
    if rate_per_s <= 0:
        return SHORTEST_S
    return min(max(math.ceil(waiting / rate_per_s), SHORTEST_S), LONGEST_S)


def refusal(error: CubbyholeError, wait_s: int = SHORTEST_S) -> Failure:
    """Return the answer for an entry that the channel or the intake did not take.

    Args:
        error: Why not.
        wait_s: For Retry-After.
    """
    if isinstance(error, ChannelFull):
        detail = "The server is at its limit of requests in flight. Try again later."
        return Failure(error.code, 503, detail, {"Retry-After": str(wait_s)}, message=str(error))
    headers = {"Retry-After": str(wait_s)} if error.status in {429, 503} else {}
    if error.status == 408:
        headers["connection"] = "close"  # the rest of the body is not wanted
    detail = "Internal server error" if error.status >= 500 and error.status != 503 else str(error)
    return Failure(error.code, error.status, detail, headers, message=str(error))
