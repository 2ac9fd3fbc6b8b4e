# SPDX-License-Identifier: Apache-2.0
"""Texts with numbers put into known lines are those that prometheus-client writes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)

from cubbyhole.observe.exposition import FORMATS_MOST, Exposition, text_between

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

PLAIN = ""
OPEN = "application/openmetrics-text; version=1.0.0"
FORMATS = pytest.mark.parametrize("accept", [PLAIN, OPEN, "text/plain; version=1.0.0; escaping=allow-utf-8"])  # fmt: skip


def some(number: float, *paths: str) -> list[Metric]:
    gauge = GaugeMetricFamily("a_gauge", "With \\ and\na break.", labels=["path"])
    counter = CounterMetricFamily("a_counter", "Of things.", labels=["path", "why"])
    histogram = HistogramMetricFamily("a_seconds", "Of time.", labels=["path"])
    for path in paths:
        gauge.add_metric([path], number)
        counter.add_metric([path, "# x"], abs(number))
        buckets = [("0.5", abs(number)), ("+Inf", 2 * abs(number))]
        histogram.add_metric([path], buckets, number / 3)
    return [gauge, counter, histogram]


@FORMATS
@pytest.mark.parametrize("number", [0.0, -2.5, 12_345_678.0, 1e-7, 3.3e21, math.inf])
def test_numbers_in_known_lines_make_the_text_of_the_library(accept: str, number: float) -> None:
    paths = ("/predict", '/"quoted"', "/two\nlines # 1.0", "")
    exposition = Exposition()
    exposition.text(some(7.0, *paths), accept)
    again = exposition.text(some(number, *paths), accept)
    assert again == Exposition().text(some(number, *paths), accept)


def test_lines_are_written_anew_where_labels_come_or_go() -> None:
    exposition = Exposition()
    exposition.text(some(1.0, "/a"), PLAIN)
    for paths in (("/a", "/b"), ("/b",), ()):
        assert exposition.text(some(1.0, *paths), PLAIN) == Exposition().text(some(1.0, *paths), PLAIN)  # fmt: skip


def test_each_format_has_its_own_lines() -> None:
    exposition = Exposition()
    for number in (1.0, 2.0):
        plain, open_ = (exposition.text(some(number, "/a"), accept) for accept in (PLAIN, OPEN))
        assert open_[0].endswith(b"# EOF\n")
        assert b"EOF" not in plain[0]
        assert open_[1].startswith("application/openmetrics-text")
        assert plain[1].startswith("text/plain")


def test_versions_that_a_client_makes_up_take_no_memory_and_no_answer() -> None:
    exposition = Exposition()
    for number in range(50):
        text, content_type = exposition.text(some(1.0, "/a"), f"application/openmetrics-text; version=1.{number}.0")  # fmt: skip
        assert text.endswith(b"# EOF\n")
        assert f"version=1.{number}.0;" in content_type
    assert len(exposition._known) <= FORMATS_MOST
    unheard_of = exposition.text(some(1.0, "/a"), "application/openmetrics-text; version=abc")
    assert unheard_of == exposition.text(some(1.0, "/a"), PLAIN)


def test_a_text_that_does_not_end_its_lines_with_the_values_is_not_taken_apart() -> None:
    assert text_between("# HELP a\na 1.0\nb 2.0\n", ["1.0", "2.0"]) == ["# HELP a\na ", "\nb ", "\n"]  # fmt: skip
    assert text_between("a 1.0\n", ["1.0", "2.0"]) == []
    assert text_between("a 1.0 1700000000\n", ["1.0"]) == []
    assert text_between("b 2.0\na 1.0\n", ["1.0", "2.0"]) == []
