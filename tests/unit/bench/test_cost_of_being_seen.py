# SPDX-License-Identifier: Apache-2.0
"""The comparison of a server that is looked at with one that is not."""

from __future__ import annotations

import math
from typing import Any

import pytest
from bench import tables
from bench.seeing_command import WAYS, _compare, _mean, report


def result(per_s: dict[str, float], **failed: str) -> dict[str, Any]:
    """Turns of each way, each between two of `off`."""
    about = {"workload": "noop-32", "repeat": 0, "failures": 0}
    runs: list[dict[str, Any]] = []
    off = {"requests_per_s": 1000.0, "server_cpu_ms": 0.1}
    for name, value in per_s.items():
        found = {**about, "contender": name, **off, "requests_per_s": value}
        _compare(found, off, off)
        runs.append(found)
    runs += [
        {**about, "contender": name, "failures": 1, "example": why} for name, why in failed.items()
    ]
    ways = [*per_s, *failed]
    return {"settings": {"ways": ways}, "runs": runs, "summary": tables.summarize(runs)}


@pytest.mark.parametrize(("per_s", "word"), [(960.0, "reached"), (940.0, "missed")])
def test_the_verdict_is_on_all_ways_together(per_s: float, word: str) -> None:
    text = report(result({"off": 1000.0, "metrics": 100.0, "all": per_s}))
    assert f"{per_s / 1000:.1%} of the req/s are left; the target is 95%: {word}." in text


def test_a_way_that_failed_is_told_and_has_no_figure() -> None:
    text = report(result({"off": 1000.0}, otel="no collector"))
    assert "otel, noop-32: failed 1 time: no collector" in text
    assert "target" not in text


def test_a_turn_is_compared_with_the_mean_of_its_neighbours() -> None:
    found = {"requests_per_s": 90.0, "server_cpu_ms": 3.0}
    neighbours = [{"requests_per_s": value, "server_cpu_ms": 2.0} for value in (80.0, 125.0)]
    _compare(found, *neighbours)
    assert found["of_requests_per_s"] == pytest.approx(0.9)
    assert found["of_server_cpu_ms"] == pytest.approx(1.5)


def test_turns_that_are_as_much_faster_as_slower_are_no_change() -> None:
    runs = [{"contender": "otel", "of_requests_per_s": one} for one in (0.8, 1 / 0.8)]
    found = _mean([*runs, {"contender": "otel", "failures": 1}], "otel", "of_requests_per_s")
    assert found is not None
    assert found[0] == pytest.approx(1.0)
    assert found[1] == pytest.approx(math.log(1 / 0.8))
    assert _mean(runs, "metrics", "of_requests_per_s") is None


def test_beside_a_turn_that_failed_there_is_no_ratio() -> None:
    found = {"requests_per_s": 90.0}
    _compare(found, {"failures": 1}, {"requests_per_s": 80.0})
    assert "of_requests_per_s" not in found


def test_ways_that_need_no_option_are_always_offered() -> None:
    assert {name for name, way in WAYS.items() if not way.option} == {
        "metrics",
        "observer",
        "screen",
    }
    assert all(way.offered for way in WAYS.values() if not way.option)
