# SPDX-License-Identifier: Apache-2.0
"""The page's histograms say of every request how long it was in each phase."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from cubbyhole.core.history import OUTCOMES, EndpointHistograms, Histogram
from cubbyhole.inspector.spans import STEP_NS, Spans, bars

BOUNDS_S = (
    0.001,
    0.00125,
    0.0016,
    0.002,
    0.0025,
)  # the first edges of a page are 1, 1.6 and 2.5 ms
EMPTY = Histogram(BOUNDS_S, (0,) * 6, 0.0)
MINUTE_NS = 60_000_000_000


def counted(**phases: Histogram) -> EndpointHistograms:
    fields: dict[str, Any] = {
        field: phases.get(field, EMPTY)
        for field in EndpointHistograms.__struct_fields__
        if field not in ("endpoint", "outcomes")
    }
    answered = phases.get("request", EMPTY).count
    outcomes = dict.fromkeys(OUTCOMES, 0) | {"answered": answered}
    return EndpointHistograms(endpoint=0, outcomes=outcomes, **fields)


def times(*counts: int) -> Histogram:
    return Histogram(BOUNDS_S, counts, sum(counts) * 0.002)


def by_window(spans: Spans) -> dict[str, dict[str, Any]]:
    return {one["window"]: one for one in spans.shown()}


def test_every_request_is_counted_whether_or_not_somebody_looked() -> None:
    spans = Spans()
    spans.look(0, [counted(request=times(0, 0, 7, 90_000, 0, 2))])
    (total,) = by_window(spans)["start"]["phases"]
    assert total["phase"] == "total"
    assert total["total"] == 90_009
    assert spans.edges_ms() == [1.0, 1.6, 2.5]


def test_bars_are_whole_buckets_of_the_segment_and_lose_none() -> None:
    found = bars(times(0, 3, 4, 50, 6, 2))
    assert found["first"] == 1
    assert found["counts"] == [7, 56, 2]
    assert sum(found["counts"]) == found["total"]
    assert bars(EMPTY)["counts"] == [0]


@pytest.mark.parametrize("counts", [(5, 0, 0, 0, 0, 0), (0, 0, 0, 0, 0, 5), (1, 1, 1, 1, 1, 1)])
def test_bars_begin_and_end_where_something_was_counted(counts: tuple[int, ...]) -> None:
    found = bars(times(*counts))
    assert found["counts"][0] > 0
    assert found["counts"][-1] > 0
    assert sum(found["counts"]) == sum(counts)


def test_the_last_minute_leaves_out_what_was_before() -> None:
    spans = Spans()
    before, later = times(1000, 0, 0, 0, 0, 0), times(1000, 0, 0, 0, 25, 0)
    for step in range(40):
        spans.look(step * STEP_NS, [counted(request=before)])
    spans.look(40 * STEP_NS, [counted(request=later)])
    found = by_window(spans)
    assert found["start"]["outcomes"] == {"answered": 1025}
    assert found["minute"]["outcomes"] == {"answered": 25}
    assert found["minute"]["phases"][0]["p50"] > 2
    assert found["start"]["phases"][0]["p50"] <= 1


def test_a_minute_ends() -> None:
    spans = Spans()
    spans.look(0, [counted()])
    spans.look(STEP_NS, [counted(request=times(0, 9, 0, 0, 0, 0))])
    assert by_window(spans)["minute"]["outcomes"] == {"answered": 9}
    for step in range(2, MINUTE_NS // STEP_NS + 3):
        spans.look(step * STEP_NS, [counted(request=times(0, 9, 0, 0, 0, 0))])
    assert by_window(spans)["minute"]["phases"] == []
    assert by_window(spans)["start"]["outcomes"] == {"answered": 9}


def test_shares_are_of_the_phases_that_follow_each_other() -> None:
    spans = Spans()
    queue = msgspec.structs.replace(times(0, 4, 0, 0, 0, 0), total=3.0)
    run = msgspec.structs.replace(times(0, 4, 0, 0, 0, 0), total=1.0)
    spans.look(0, [counted(queue=queue, execute=run, request=times(0, 4, 0, 0, 0, 0))])
    phases = {one["phase"]: one["share"] for one in by_window(spans)["start"]["phases"]}
    assert phases == {"queue": 0.75, "run": 0.25, "total": None}


def test_what_is_usual_is_read_from_the_last_minute_where_it_had_enough() -> None:
    spans = Spans()
    spans.look(0, [counted(execute=times(9, 0, 0, 0, 0, 0))])
    assert spans.usual_ns(0) == 0  # too few to say
    assert spans.usual_ns(7) == 0  # no such endpoint
    slow = times(900, 0, 0, 0, 0, 0)
    spans.look(STEP_NS, [counted(execute=slow)])
    assert 0 < spans.usual_ns(0) <= 1_000_000
    for step in range(2, 30):
        spans.look(step * STEP_NS, [counted(execute=slow)])
    spans.look(30 * STEP_NS, [counted(execute=times(900, 0, 0, 0, 20, 0))])
    assert spans.usual_ns(0) > 2_000_000
