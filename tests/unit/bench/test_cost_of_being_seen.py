# SPDX-License-Identifier: Apache-2.0
"""The comparison of a server that is looked at with one that is not."""

from __future__ import annotations

from typing import Any

import pytest
from bench import tables
from bench.seeing_command import WAYS, ratio, report


def result(per_s: dict[str, float], **failed: str) -> dict[str, Any]:
    about = {"workload": "noop-32", "repeat": 0}
    runs: list[dict[str, Any]] = [
        {**about, "contender": name, "requests_per_s": value, "server_cpu_ms": 0.1, "failures": 0}
        for name, value in per_s.items()
    ]
    runs += [
        {**about, "contender": name, "failures": 1, "example": why} for name, why in failed.items()
    ]
    return {"settings": {"ways": list(per_s)}, "runs": runs, "summary": tables.summarize(runs)}


@pytest.mark.parametrize(("per_s", "word"), [(960.0, "reached"), (940.0, "missed")])
def test_the_verdict_is_on_all_ways_together(per_s: float, word: str) -> None:
    text = report(result({"off": 1000.0, "metrics": 100.0, "all": per_s}))
    assert f"{per_s / 1000:.1%} of the req/s are left; the target is 95%: {word}." in text


def test_a_way_that_failed_is_told_and_has_no_figure() -> None:
    text = report(result({"off": 1000.0}, otel="no collector"))
    assert "otel, noop-32: failed 1 time: no collector" in text
    assert "target" not in text


def test_without_a_base_there_is_no_ratio() -> None:
    assert ratio({"requests_per_s": {"median": 1.0}}, {}, "requests_per_s") == 0.0


def test_ways_that_need_no_option_are_always_offered() -> None:
    assert {name for name, way in WAYS.items() if not way.option} == {"metrics", "observer"}
    assert all(way.offered for way in WAYS.values() if not way.option)
