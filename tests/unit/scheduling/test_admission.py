# SPDX-License-Identifier: Apache-2.0
"""When a client that is refused is told to come again."""

from __future__ import annotations

import pytest

from cubbyhole.core.errors import ChannelFull
from cubbyhole.scheduling.admission import AnswerRate, refusal, retry_after_s

SECOND_NS = 1_000_000_000


@pytest.mark.parametrize(
    ("waiting", "rate", "told"),
    [(100, 10.0, 10), (101, 10.0, 11), (5, 1000.0, 1), (1000, 0.5, 60), (7, 0.0, 1)],
)
def test_it_is_when_what_waits_now_will_be_answered(waiting: int, rate: float, told: int) -> None:
    assert retry_after_s(waiting, rate) == told


def test_the_rate_is_that_of_the_last_seconds() -> None:
    rate = AnswerRate()
    for second in range(21):  # 10 a second, then 2 a second
        rate.note(10 * min(second, 10) + 2 * max(second - 10, 0), second * SECOND_NS)
    assert rate.per_s(120, 20 * SECOND_NS) == pytest.approx(2.0)


def test_without_an_answer_the_rate_falls() -> None:
    rate = AnswerRate()
    rate.note(0, 0)
    assert rate.per_s(0, 4 * SECOND_NS) == pytest.approx(0.25)


def test_a_pause_is_not_counted_as_slow() -> None:
    rate = AnswerRate()
    rate.note(50, 0)
    rate.pause()
    rate.note(50, 100 * SECOND_NS)
    assert rate.per_s(60, 101 * SECOND_NS) == pytest.approx(10.0)


def test_a_refusal_says_it() -> None:
    failure = refusal(ChannelFull("no room"), 7)
    assert (failure.status, failure.headers) == (503, {"Retry-After": "7"})
