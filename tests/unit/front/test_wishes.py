# SPDX-License-Identifier: Apache-2.0
"""What clients may ask for by headers, in both lanes."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from tests.unit.front.house import EchoAPI, House
from tests.unit.front.test_lanes import LANES, server_for

import cubbyhole as ls
from cubbyhole.core.entries import Result

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cubbyhole.core.entries import ClaimedEntry

SECOND_NS = 1_000_000_000


class Gate:
    """A model whose first request holds the only worker until the others wait in the queue."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.held = threading.Event()
        self.order: list[str] = []

    def __call__(self, entry: ClaimedEntry) -> Iterator[Result]:
        name = bytes(entry.body).decode()
        if name == '"first"':
            self.held.set()
            self.open.wait(10)
        else:
            self.order.append(name.strip('"'))
        yield Result(b"1")


async def wait_for(condition: Any) -> None:
    deadline_s = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline_s
        await asyncio.sleep(0.005)


async def order_of(
    lane: str, asked: list[tuple[str, dict[str, str]]], api: ls.LitAPI | None = None, **options: Any
) -> list[str]:
    """Hold the worker, queue the requests one after another, let go: the order in which they were claimed."""
    gate = Gate()
    with House(server_for(lane, api, **options), gate) as house, house.over_http() as url:
        async with httpx.AsyncClient(base_url=url, timeout=10) as client:
            tasks = [asyncio.create_task(client.post("/predict", json="first"))]
            await wait_for(gate.held.is_set)
            for number, (name, headers) in enumerate(asked):
                tasks.append(
                    asyncio.create_task(client.post("/predict", json=name, headers=headers))
                )
                await wait_for(lambda n=number: house.channel.statistics().ready == n + 1)
            gate.open.set()
            for answer in await asyncio.gather(*tasks):
                assert answer.status_code == 200, answer.text
    return gate.order


CLASSES = [
    ("later", {"X-Priority": "9"}),
    ("usual", {}),
    ("soon", {"X-Priority": "2"}),
    ("now", {"X-Priority": "0"}),
]


@pytest.mark.parametrize("lane", LANES)
async def test_with_priorities_the_most_urgent_is_claimed_first(lane: str) -> None:
    assert await order_of(lane, CLASSES, priorities=True) == ["now", "soon", "usual", "later"]


@pytest.mark.parametrize("lane", LANES)
async def test_without_the_operators_consent_nobody_jumps_the_queue(lane: str) -> None:
    assert await order_of(lane, CLASSES) == ["later", "usual", "soon", "now"]


async def test_a_near_deadline_is_claimed_before_a_better_class() -> None:
    asked = [("better", {"X-Priority": "4"}), ("near", {"X-Request-Timeout": "3"})]
    assert await order_of("fast", asked, priorities=True) == ["near", "better"]


class ByPlan(EchoAPI):
    def rank_request(self, headers: dict[str, str]) -> int:
        return {"gold": 0, "free": 9}[headers["x-plan"]]


async def test_an_api_orders_by_headers_of_its_own_and_a_failure_is_the_usual_class(
    caplog: pytest.LogCaptureFixture,
) -> None:
    asked = [
        ("free", {"X-Plan": "free", "X-Priority": "0"}),
        ("none", {}),
        ("gold", {"X-Plan": "gold"}),
    ]
    assert await order_of("fast", asked, ByPlan()) == ["gold", "none", "free"]
    assert "rank_request failed: path=/predict" in caplog.text


@pytest.mark.parametrize("lane", LANES)
@pytest.mark.parametrize(
    "header", [{"X-Priority": "high"}, {"X-Request-Timeout": "0"}, {"X-Request-Timeout": "30s"}]
)
async def test_a_wish_that_cannot_be_read_is_refused(lane: str, header: dict[str, str]) -> None:
    server = server_for(lane, priorities=True)
    with House(server) as house, house.over_http() as url:
        async with httpx.AsyncClient(base_url=url) as client:
            answer = await client.post("/predict", json=1, headers=header)
    assert answer.status_code == 400
    assert next(iter(header)) in answer.json()["detail"]
    assert house.claimed == []


@pytest.mark.parametrize(("asked", "granted_s"), [("0.5", 0.5), ("3600", 7.0), ("inf", 7.0)])
async def test_a_client_can_only_shorten_the_time(asked: str, granted_s: float) -> None:
    with House(server_for("fast", timeout=7)) as house, house.over_http() as url:
        async with httpx.AsyncClient(base_url=url) as client:
            plain = await client.post("/predict", json=1)
            await client.post("/predict", json=1, headers={"X-Request-Timeout": asked})
    assert plain.status_code == 200
    usual, wished = (entry.deadline_ns for entry in house.claimed)
    assert abs((wished - usual) / SECOND_NS - (granted_s - 7.0)) < 0.4


async def test_a_client_in_a_hurry_gets_504_in_its_own_time() -> None:
    gate = Gate()
    with House(server_for("fast", timeout=30), gate) as house, house.over_http() as url:
        async with httpx.AsyncClient(base_url=url) as client:
            headers = {"X-Request-Timeout": "0.2"}
            answer = await client.post("/predict", json="first", headers=headers)
            gate.open.set()
    assert answer.status_code == 504


def test_an_unknown_option_is_refused_as_python_does() -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'prioritys'"):
        ls.LitServer(EchoAPI(), prioritys=True)  # type: ignore[call-arg]
