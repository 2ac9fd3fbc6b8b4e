# SPDX-License-Identifier: Apache-2.0
"""What is known of requests that are over: how long they were in each phase, and the last of them one by one.

Flow:  a front frees a slot -> counted in the segment -> channels/past.py -> these records -> metrics, CLI, inspector
Owns:  nothing.
See:   docs/design/segment-layout.md
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate

import msgspec

# How a request ended, in the order of `cbh_outcome` (cbh_history.h).
OUTCOMES = ("answered", "failed", "worker_died", "expired", "cancelled")


class Histogram(msgspec.Struct, frozen=True):
    """How many values fell into each of a row of buckets, since the server was started.

    Attributes:
        bounds: The largest value of each bucket but the last, ascending.
        counts: One more: the last bucket has what is above all bounds.
        total: The sum of all values.
    """

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    total: float

    @property
    def count(self) -> int:
        """How many values there were."""
        return sum(self.counts)

    @property
    def mean(self) -> float:
        """The mean; 0 without any value."""
        count = self.count
        return self.total / count if count else 0.0

    def quantile(self, fraction: float) -> float:
        """Estimate the value that `fraction` (0 to 1) of all are not above; 0 without any.

        It lies in the right bucket, and within it where it would be if the bucket's values were spread evenly. What is above all
        bounds counts as the last bound.
        """
        count = self.count
        if not count:
            return 0.0
        wanted, below = fraction * count, 0
        for number, here in enumerate(self.counts):
            if here and below + here >= wanted:
                if number == len(self.bounds):
                    break
                low = self.bounds[number - 1] if number else 0.0
                return low + (self.bounds[number] - low) * max(0.0, wanted - below) / here
            below += here
        return self.bounds[-1]

    def at_most(self, fraction: float) -> float:
        """Return the bound of the bucket in which `quantile` lies: for sizes and counts, whose values are not spread evenly."""
        wanted = fraction * self.count
        for bound, below in zip(self.bounds, accumulate(self.counts), strict=False):
            if below and below >= wanted:
                return bound
        return self.bounds[-1] if self.count else 0.0

    def cumulative(self, bounds: tuple[float, ...]) -> list[int]:
        """Return how many values are not above each of `bounds`, which are some of ours."""
        sums = list(accumulate(self.counts))
        return [sums[bisect_right(self.bounds, bound) - 1] for bound in bounds]

    def since(self, before: Histogram) -> Histogram:
        """Return what was counted after an earlier look at the same histogram."""
        counts = tuple(
            max(0, now - then) for now, then in zip(self.counts, before.counts, strict=True)
        )
        return Histogram(self.bounds, counts, max(0.0, self.total - before.total))


class EndpointHistograms(msgspec.Struct, frozen=True, kw_only=True):
    """What became of an endpoint's requests, over all processes, since the server was started.

    A request is counted when its front is done with it. Times are in seconds, sizes in bytes.

    Attributes:
        endpoint: Its number.
        outcomes: Requests by how they ended, a count for each of `OUTCOMES`.
        intake: From a request's head to the moment when its body was in the channel.
        queue: From there until a worker took it, or until it was given up.
        execute: From there to its outcome; the last attempt only.
        collect: From there until the front took it.
        first_chunk: Of streams: from the request's head to its first chunk.
        request: From the head to the end, of all but the cancelled.
        request_bytes: Bodies, all.
        result_bytes: Results of answered requests; of a stream all its chunks.
        batch_size: Requests of each batch that a worker began.
        batch_wait: From a batch's first request to its start; a part of `execute`.
    """

    endpoint: int
    outcomes: dict[str, int]
    intake: Histogram
    queue: Histogram
    execute: Histogram
    collect: Histogram
    first_chunk: Histogram
    request: Histogram
    request_bytes: Histogram
    result_bytes: Histogram
    batch_size: Histogram
    batch_wait: Histogram


class FinishedEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A request that is over.

    Attributes:
        id: The entry's.
        endpoint, front: Their numbers.
        outcome: One of `OUTCOMES`.
        status: Of the HTTP answer; 499 where nobody was there to have one.
        failure: The failure's code; empty for an answer.
        worker: Who had it last; -1: nobody.
        attempt: 0 at the first claim.
        rank, deadline_ns: As it was submitted.
        request_bytes, result_bytes, chunks: Sizes.
        times_ns: received, ready, claimed, first chunk, done: monotonic ns, 0 where it did not come to that.
        over_ns: When its front was done with it.
    """

    id: int
    endpoint: int
    front: int
    outcome: str
    status: int
    failure: str = ""
    worker: int = -1
    attempt: int = 0
    rank: int = 0
    deadline_ns: int = 0
    request_bytes: int = 0
    result_bytes: int = 0
    chunks: int = 0
    times_ns: tuple[int, int, int, int, int] = (0, 0, 0, 0, 0)
    over_ns: int = 0
