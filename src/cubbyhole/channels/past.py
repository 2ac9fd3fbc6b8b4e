# SPDX-License-Identifier: Apache-2.0
"""The look back into a segment: rows of the native core -> the records of `core/history.py`.

Flow:  _native/_history -> **read_histograms**, **read_finished** -> SharedMemoryChannel.histograms, .history
Owns:  nothing. Values come from memory that others write: a number without a meaning is left out, never an error.
"""

from __future__ import annotations

from operator import itemgetter
from typing import Any

from cubbyhole.core.entries import CANCELLED_BY_OPERATOR, POISON_AFTER
from cubbyhole.core.history import OUTCOMES, EndpointHistograms, FinishedEntry, Histogram

NS_PER_S = 1e9
_over_ns = itemgetter(18)  # of a row
_WITHDRAWN = 32  # the flag of an operator's, in cbh_dict.h

# Status and code of what was not answered by a worker.
_UNANSWERED = {
    "worker_died": (503, "worker_died"),
    "expired": (504, "expired"),
    "cancelled": (499, "cancelled"),
}


def read_histograms(history: Any, bounds: Any, endpoint: int) -> EndpointHistograms:
    """Return an endpoint's histograms.

    Args:
        history: `_native._history.History`.
        bounds: The module `_native._history`, which has the bounds of all buckets.
        endpoint: Its number.
    """
    seconds = tuple(bound_ns / NS_PER_S for bound_ns in bounds.TIME_BOUNDS_NS)

    def times(found: tuple[int, list[int]]) -> Histogram:
        return Histogram(seconds, tuple(found[1]), found[0] / NS_PER_S)

    def sizes(found: tuple[int, list[int]], sizes_bounds: tuple[int, ...]) -> Histogram:
        return Histogram(sizes_bounds, tuple(found[1]), found[0])

    outcomes, timers, sizers = history.tally(endpoint)
    batch_size, batch_wait = history.batches(endpoint)
    intake, queue, execute, collect, first_chunk, request = map(times, timers)
    return EndpointHistograms(
        endpoint=endpoint,
        outcomes=dict(zip(OUTCOMES, outcomes, strict=False)),
        intake=intake,
        queue=queue,
        execute=execute,
        collect=collect,
        first_chunk=first_chunk,
        request=request,
        request_bytes=sizes(sizers[0], bounds.SIZE_BOUNDS),
        result_bytes=sizes(sizers[1], bounds.SIZE_BOUNDS),
        batch_size=sizes(batch_size, bounds.BATCH_BOUNDS),
        batch_wait=times(batch_wait),
    )


def read_finished(history: Any, fronts: int, most: int | None = None) -> list[FinishedEntry]:
    """Return the last entries that are over, oldest first: `most` of them, or all that are kept."""
    rows = sorted((row for row in history.past() if row[6] < len(OUTCOMES)), key=_over_ns)
    return [_finished(row, fronts) for row in rows[-most if most else 0 :]]


def _finished(row: tuple[int, ...], fronts: int) -> FinishedEntry:
    outcome = OUTCOMES[row[6]]
    status, failure = _UNANSWERED.get(outcome, (row[7], "failed" if outcome == "failed" else ""))
    if outcome == "worker_died" and row[4] + 1 >= POISON_AFTER:
        status, failure = 500, "poison"
    if row[5] & _WITHDRAWN:
        status, failure = CANCELLED_BY_OPERATOR.status, CANCELLED_BY_OPERATOR.code
    return FinishedEntry(
        id=row[0],
        endpoint=row[1],
        front=row[2],
        outcome=outcome,
        status=status,
        failure=failure,
        worker=row[3] - fronts if row[3] >= fronts else -1,
        attempt=row[4],
        chunks=row[8],
        request_bytes=row[9],
        result_bytes=row[10],
        rank=row[11],
        deadline_ns=row[12],
        times_ns=(row[13], row[14], row[15], row[16], row[17]),
        over_ns=_over_ns(row),
    )
