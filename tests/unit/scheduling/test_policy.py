# SPDX-License-Identifier: Apache-2.0
"""Ranks are times: what is more urgent comes first, and nothing starves."""

from __future__ import annotations

import random

import pytest

from cubbyhole.core.clock import NEVER_NS
from cubbyhole.scheduling.policy import (
    STEP_NS,
    parse_priority,
    parse_timeout_s,
    rank,
)

SECOND_NS = 1_000_000_000


def test_of_those_that_came_together_the_smaller_class_is_first() -> None:
    ranks = [rank(7, priority, NEVER_NS) for priority in range(10)]
    assert ranks == sorted(set(ranks))


def test_within_a_class_it_is_first_come_first_served() -> None:
    assert rank(7, 5, NEVER_NS) < rank(8, 5, NEVER_NS)


def test_waiting_outweighs_any_class() -> None:
    """Under an endless stream of the most urgent, the least urgent is passed by those of nine seconds only."""
    old = rank(0, 9, NEVER_NS)
    assert rank(9 * STEP_NS - 1, 0, NEVER_NS) < old < rank(9 * STEP_NS + 1, 0, NEVER_NS)


def test_a_near_deadline_comes_before_a_better_class() -> None:
    assert rank(0, 9, SECOND_NS // 2) < rank(0, 1, NEVER_NS)


def test_a_far_deadline_changes_nothing() -> None:
    assert rank(0, 3, 60 * SECOND_NS) == rank(0, 3, NEVER_NS)


def test_a_rank_fits_the_channels_word_whatever_comes_in() -> None:
    chance = random.Random(5)
    for _ in range(1000):
        made = rank(chance.randrange(2**62), chance.randrange(-(10**6), 10**6), NEVER_NS)
        assert 0 <= made < 2**64


@pytest.mark.parametrize("text", [b"", b"10", b"-1", b"x", b"1.0", b"\xb2"])
def test_a_class_is_one_digit(text: bytes) -> None:
    with pytest.raises(ValueError, match="from 0"):
        parse_priority(text)
    assert parse_priority(b"0") == 0


@pytest.mark.parametrize("text", [b"", b"0", b"-1", b"nan", b"30s"])
def test_a_timeout_is_a_number_above_0(text: bytes) -> None:
    with pytest.raises(ValueError, match="above 0"):
        parse_timeout_s(text)
    assert parse_timeout_s(b"0.5") == 0.5
