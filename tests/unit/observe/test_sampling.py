# SPDX-License-Identifier: Apache-2.0
"""Which requests have spans."""

from __future__ import annotations

import pytest

from cubbyhole.observe import sampling
from cubbyhole.observe.sampling import Admission

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The time, in ns, in a list of one."""
    at = [1_000_000_000]
    monkeypatch.setattr(sampling, "now_ns", lambda: at[0])
    return at


def admitted(admission: Admission, requests: int) -> int:
    return sum(admission.admits("") for _ in range(requests))


def test_so_many_a_second_begin_a_trace(clock: list[int]) -> None:
    admission = Admission(10.0)
    assert admitted(admission, 1000) == 10
    clock[0] += 500_000_000
    assert admitted(admission, 1000) == 5
    clock[0] += 3_600 * 1_000_000_000
    assert admitted(admission, 1000) == 10


def test_a_budget_below_one_a_second_still_comes_to_something(clock: list[int]) -> None:
    admission = Admission(0.5)
    assert admitted(admission, 5) == 1
    clock[0] += 1_000_000_000
    assert admitted(admission, 5) == 0
    clock[0] += 1_000_000_000
    assert admitted(admission, 5) == 1


def test_what_the_client_says_goes_before_the_budget(clock: list[int]) -> None:
    admission = Admission(1.0)
    assert all(admission.admits(f"00-{TRACE}-{SPAN}-01") for _ in range(5))
    assert not any(admission.admits(f"00-{TRACE}-{SPAN}-00") for _ in range(5))
    assert admission.admits(f"cc-{TRACE}-{SPAN}-03-of-a-later-version")
    assert admitted(admission, 5) == 1


@pytest.mark.parametrize(
    "broken",
    [
        "00-zz-yy-01",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE}-{SPAN}",
        "\u00e9",
    ],
)
def test_a_broken_header_is_none(broken: str, clock: list[int]) -> None:
    admission = Admission(1.0)
    assert admission.admits(broken)
    assert not admission.admits(broken)


def test_without_a_limit_everything_is_for_the_sampler_to_decide() -> None:
    admission = Admission(None)
    assert admitted(admission, 1000) == 1000
    assert admission.admits(f"00-{TRACE}-{SPAN}-00")


def test_with_no_budget_only_clients_begin_traces() -> None:
    admission = Admission(0.0)
    assert admitted(admission, 10) == 0
    assert admission.admits(f"00-{TRACE}-{SPAN}-01")


def test_those_between_two_with_spans_are_counted_and_one_that_was_turned_away_is_none() -> None:
    admission = Admission(None)
    assert admission.left_out(0) == 0
    assert admission.left_out(991) == 990
    assert admission.left_out(991) == 0  # the one before was traced, but not submitted
    assert admission.left_out(991) == 0
    assert admission.left_out(993) == 1
