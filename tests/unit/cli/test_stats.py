# SPDX-License-Identifier: Apache-2.0
"""What can be read out of a histogram."""

from __future__ import annotations

import random

import pytest

from cubbyhole.cli.facts import duration, size
from cubbyhole.cli.stats import since, summary
from cubbyhole.core.history import OUTCOMES, EndpointHistograms, Histogram

BOUNDS = (1.0, 2.0, 4.0, 8.0)


def histogram(*counts: int, total: float = 0.0) -> Histogram:
    return Histogram(BOUNDS, counts, total)


def endpoint(one: Histogram, answered: int) -> EndpointHistograms:
    names = "intake queue execute collect first_chunk request request_bytes result_bytes"
    fields = dict.fromkeys((*names.split(), "batch_size", "batch_wait"), one)
    outcomes = dict.fromkeys(OUTCOMES, 0) | {"answered": answered}
    return EndpointHistograms(endpoint=0, outcomes=outcomes, **fields)


def test_without_values_all_is_zero() -> None:
    empty = histogram(0, 0, 0, 0, 0)
    assert (empty.count, empty.mean, empty.quantile(0.5), empty.at_most(0.5)) == (0, 0, 0, 0)


@pytest.mark.parametrize(
    ("fraction", "value"), [(0.0, 1.0), (0.25, 1.5), (0.5, 2.0), (0.75, 3.0), (1.0, 4.0)]
)
def test_a_quantile_lies_within_its_bucket_as_if_that_were_evenly_filled(
    fraction: float, value: float
) -> None:
    assert histogram(0, 5, 5, 0, 0).quantile(fraction) == value


def test_what_is_above_all_bounds_counts_as_the_last_one() -> None:
    assert histogram(0, 0, 0, 0, 7).quantile(0.5) == 8.0
    assert histogram(0, 0, 0, 0, 7).at_most(0.5) == 8.0


def test_at_most_is_a_bound() -> None:
    assert [histogram(3, 0, 1, 0, 0).at_most(f) for f in (0.0, 0.5, 0.75, 0.9)] == [1, 1, 1, 4]


def test_a_quantile_of_many_values_is_near_the_true_one() -> None:
    """Ten bounds to a decade: 13 % off at most, by the middle of a bucket."""
    generator = random.Random(3)
    bounds = tuple(1e-5 * 10 ** (step / 10) for step in range(71))
    values = sorted(generator.lognormvariate(-5, 1) for _ in range(20000))
    counts = [0] * 72
    for value in values:
        counts[sum(bound < value for bound in bounds)] += 1
    found = Histogram(bounds, tuple(counts), sum(values))
    for fraction in (0.5, 0.95, 0.99):
        assert found.quantile(fraction) == pytest.approx(values[int(fraction * 20000)], rel=0.13)


def test_the_difference_of_two_looks_is_what_came_between() -> None:
    before, now = histogram(1, 2, 0, 0, 0, total=5.0), histogram(1, 5, 1, 0, 0, total=15.0)
    between = now.since(before)
    assert (between.counts, between.total) == ((0, 3, 1, 0, 0), 10.0)
    found = since(endpoint(now, 7), endpoint(before, 3))
    assert (found.outcomes["answered"], found.queue.count) == (4, 4)


def test_shares_of_the_phases_are_of_all_their_time() -> None:
    found = summary(endpoint(histogram(0, 2, 0, 0, 0, total=3.0), 2), "/a")
    assert {phase: row["share"] for phase, row in found["phases_s"].items()} == {
        "intake": 0.25,
        "queue": 0.25,
        "run": 0.25,
        "collect": 0.25,
    }
    assert found["other_s"]["total"]["mean"] == 1.5


def test_phases_without_values_are_left_out_and_those_of_every_request_are_not() -> None:
    found = summary(endpoint(histogram(0, 0, 0, 0, 0), 0), "/a")
    assert list(found["phases_s"]) == ["intake", "queue", "run", "collect"]
    assert found["other_s"] == {}
    assert found["sizes"] == {}


def test_times_and_sizes_are_written_in_the_unit_in_which_they_are_short() -> None:
    assert [duration(s) for s in (0.0, 0.0000123, 0.0456, 7.0)] == [
        "0",
        "12.3 us",
        "45.6 ms",
        "7 s",
    ]
    assert [size(n) for n in (0, 64, 1536, 3 << 20, 5 << 30)] == [
        "0 B",
        "64 B",
        "1.5 KiB",
        "3 MiB",
        "5 GiB",
    ]


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0 B"), (14.3, "14.3 B"), (1008, "1008 B"), (1024, "1 KiB"), (90_027, "87.9 KiB"), (2**40, "1.02e+03 GiB")],
)  # fmt: skip
def test_sizes_are_short(number: float, text: str) -> None:
    assert size(number) == text
