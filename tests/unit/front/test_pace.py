# SPDX-License-Identifier: Apache-2.0
"""When a large body is read in one go, and when it steps back."""

from __future__ import annotations

from typing import Any

import pytest

from cubbyhole.front import pace
from cubbyhole.front.exchange import ExchangeStatistics
from cubbyhole.front.intake import read_body
from cubbyhole.front.pace import (
    ALONE_TURN_BYTES,
    BUSY_FOR_NS,
    BUSY_PAUSE_S,
    BUSY_TURN_BYTES,
    Pace,
)


class Load:
    """What an exchange says of itself."""

    def __init__(self) -> None:
        self.waiting = 0
        self.total = 7

    def __call__(self) -> ExchangeStatistics:
        return ExchangeStatistics(waiting=self.waiting, submitted_total=self.total)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    time_ns = [1_000_000_000]
    monkeypatch.setattr(pace, "now_ns", lambda: time_ns[0])
    return time_ns


def test_alone_there_is_no_pause(clock: list[int]) -> None:
    one = Pace(Load())
    assert one.turn_bytes() == ALONE_TURN_BYTES
    assert [one.pause_s(ALONE_TURN_BYTES) for _ in range(50)] == [0.0] * 50


def test_beside_a_request_that_waits_each_turn_is_small_and_has_a_pause(clock: list[int]) -> None:
    load = Load()
    one = Pace(load)
    load.waiting = 1
    assert one.turn_bytes() == BUSY_TURN_BYTES
    assert [one.pause_s(BUSY_TURN_BYTES // 2) for _ in range(6)] == [0, BUSY_PAUSE_S] * 3


def test_a_request_that_came_and_went_between_two_looks_counts_for_a_while(
    clock: list[int],
) -> None:
    load = Load()
    one = Pace(load)
    load.total += 1
    assert one.pause_s(BUSY_TURN_BYTES) == BUSY_PAUSE_S
    clock[0] += BUSY_FOR_NS - 1
    assert one.pause_s(BUSY_TURN_BYTES) == BUSY_PAUSE_S
    clock[0] += 1
    assert one.pause_s(BUSY_TURN_BYTES) == 0.0
    assert one.turn_bytes() == ALONE_TURN_BYTES


@pytest.mark.parametrize("headers", [[], [(b"content-length", b"1048576")]])
async def test_a_body_that_comes_as_messages_has_pauses_too(
    headers: list[tuple[bytes, bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr("cubbyhole.front.intake.asyncio.sleep", sleep)
    parts = [b"x" * 65536] * 16

    async def receive() -> Any:
        return {"type": "http.request", "body": parts.pop(), "more_body": bool(parts)}

    load = Load()
    load.waiting = 1
    scope = {"headers": headers}
    body = await read_body({"body": b""}, receive, scope, 1 << 30, bytearray, Pace(load))
    assert bytes(body) == b"x" * 1048576
    assert slept == [BUSY_PAUSE_S] * 3, "and none after the last part"
