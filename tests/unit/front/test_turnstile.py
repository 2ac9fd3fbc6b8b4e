# SPDX-License-Identifier: Apache-2.0
"""Limits for each client, limits in bytes, fair shares: in both lanes, over real HTTP."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from tests.unit.front.house import EchoAPI, House, StreamAPI
from tests.unit.front.test_lanes import LANES, server_for
from tests.unit.front.test_wishes import Gate, order_of, wait_for

import cubbyhole as ls
from cubbyhole.core.entries import Chunk, Result

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from cubbyhole.core.entries import ClaimedEntry

ANNA, BERT = {"X-API-Key": "anna"}, {"X-API-Key": "bert"}
FLOOD = [(f"flood {number}", ANNA) for number in range(5)]


@pytest.mark.parametrize("lane", LANES)
async def test_another_keys_first_request_does_not_wait_for_a_flood(lane: str) -> None:
    order = await order_of(lane, [*FLOOD, ("other", BERT)], fair_shares=True)
    assert order == ["flood 0", "other", *(f"flood {number}" for number in range(1, 5))]


async def test_without_fair_shares_it_does() -> None:
    assert (await order_of("fast", [*FLOOD, ("other", BERT)]))[-1] == "other"


async def test_shares_go_by_a_header_of_the_operators_choice() -> None:
    asked = [(f"flood {number}", {"X-Tenant": "a"}) for number in range(4)]
    asked.append(("other", {"X-Tenant": "b"}))
    order = await order_of("fast", asked, fair_shares="X-Tenant")
    assert order.index("other") == 1


async def test_shares_are_fair_within_a_class() -> None:
    asked = [*FLOOD, ("other", BERT), ("urgent", ANNA | {"X-Priority": "0"})]
    order = await order_of("fast", asked, fair_shares=True, priorities=True)
    assert order[:3] == ["urgent", "flood 0", "other"]


async def test_shares_alone_let_nobody_choose_his_class() -> None:
    asked = [*FLOOD, ("other", BERT), ("pushy", ANNA | {"X-Priority": "0"})]
    assert (await order_of("fast", asked, fair_shares=True))[-1] == "pushy"


async def test_short_deadlines_win_no_turn() -> None:
    asked = [(name, headers | {"X-Request-Timeout": "4"}) for name, headers in FLOOD]
    order = await order_of("fast", [*asked, ("other", BERT)], fair_shares=True, priorities=True)
    assert order.index("other") == 1


@pytest.mark.parametrize("lane", LANES)
async def test_over_max_queue_per_key_it_is_429_and_others_are_served(lane: str) -> None:
    gate = Gate()
    with House(server_for(lane, max_queue_per_key=2), gate) as house, house.over_http() as url:
        async with httpx.AsyncClient(base_url=url, timeout=10) as client:
            held = [asyncio.create_task(client.post("/predict", json="first", headers=ANNA))]
            await wait_for(gate.held.is_set)
            held += [asyncio.create_task(client.post("/predict", json="next", headers=ANNA))]
            await wait_for(lambda: house.channel.statistics().ready == 1)
            refused = await client.post("/predict", json="more", headers=ANNA)
            others = [asyncio.create_task(client.post("/predict", json=1, headers=BERT))]
            others.append(asyncio.create_task(client.post("/predict", json=1)))
            await wait_for(lambda: house.channel.statistics().ready == 3)
            gate.open.set()
            served = await asyncio.gather(*held, *others)
            again = await client.post("/predict", json="again", headers=ANNA)
    assert refused.status_code == 429
    assert int(refused.headers["Retry-After"]) >= 1
    assert "2 requests of this client" in refused.json()["detail"]
    assert {answer.status_code for answer in [*served, again]} == {200}
    assert "more" not in gate.order


async def test_without_the_header_a_client_goes_by_its_address() -> None:
    gate = Gate()
    server = server_for("fast", max_queue_per_key=1, client_key="address")
    with House(server, gate) as house, house.over_http() as url:
        async with httpx.AsyncClient(base_url=url, timeout=10) as client:
            held = asyncio.create_task(client.post("/predict", json="first", headers=ANNA))
            await wait_for(gate.held.is_set)
            refused = await client.post("/predict", json="more", headers=BERT)
            gate.open.set()
            await held
    assert refused.status_code == 429


def chunked(body: bytes) -> AsyncIterator[bytes]:
    async def parts() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 1000):
            yield body[start : start + 1000]

    return parts()


@pytest.mark.parametrize("lane", LANES)
@pytest.mark.parametrize("way", ["with a length", "chunked"])
async def test_over_max_queue_bytes_it_is_503_until_there_is_room(lane: str, way: str) -> None:
    gate = Gate()
    body: Any = b"x" * 6000
    with House(server_for(lane, max_queue_bytes="10kB"), gate) as house, house.over_http() as url:
        async with httpx.AsyncClient(base_url=url, timeout=10) as client:
            held = [asyncio.create_task(client.post("/predict", json="first"))]
            await wait_for(gate.held.is_set)
            held += [asyncio.create_task(client.post("/predict", content=body))]
            await wait_for(lambda: house.channel.statistics().ready == 1)
            more = chunked(body) if way == "chunked" else body
            refused = await client.post("/predict", content=more)
            small = asyncio.create_task(client.post("/predict", content=b"small"))
            await wait_for(lambda: house.channel.statistics().ready == 2)
            gate.open.set()
            served = await asyncio.gather(*held, small)
            again = await client.post("/predict", content=chunked(body))
    assert refused.status_code == 503
    assert int(refused.headers["Retry-After"]) >= 1
    assert {answer.status_code for answer in [*served, again]} == {200}
    assert [len(entry.body) for entry in house.claimed] == [7, 6000, 5, 6000]


async def test_one_body_is_let_in_however_large() -> None:
    with House(server_for("fast", max_queue_bytes=1000)) as house, house.over_http() as url:
        async with httpx.AsyncClient(base_url=url) as client:
            for body in (b"1" * 5000, chunked(b"1" * 5000)):
                assert (await client.post("/predict", content=body)).status_code == 200


async def test_a_body_over_its_own_limit_is_413_whatever_is_under_way() -> None:
    gate = Gate()
    server = server_for("fast", max_queue_bytes=1000, max_payload_size=2000)
    with House(server, gate) as house, house.over_http() as url:
        async with httpx.AsyncClient(base_url=url, timeout=10) as client:
            held = asyncio.create_task(client.post("/predict", json="first"))
            await wait_for(gate.held.is_set)
            statuses = [
                (await client.post("/predict", content=b"1" * size)).status_code
                for size in (5000, 1500)
            ]
            gate.open.set()
            await held
    assert statuses == [413, 503]


def endless(entry: ClaimedEntry) -> Iterator[Chunk | Result]:
    while not entry.cancelled:
        yield Chunk(b"x" * 1000)
    yield Result(b"")


async def test_nothing_stays_counted_of_what_was_refused_broken_off_or_streamed() -> None:
    server = server_for("fast", StreamAPI(stream=True), max_queue_per_key=1, fair_shares=True)
    with House(server, endless) as house, house.over_http() as url:
        for _ in range(3):
            async with (
                httpx.AsyncClient(base_url=url) as client,
                client.stream("POST", "/predict", json=1, headers=ANNA) as answer,
            ):
                assert answer.status_code == 200
                refused = await client.post("/predict", json=1, headers=ANNA)
                assert refused.status_code == 429
            await wait_for(lambda: house.channel.statistics().slots_used == 0)


@pytest.mark.parametrize(
    "option",
    [
        {"fair_shares": "no header"},
        {"client_key": ""},
        {"fair_shares": "x-a", "client_key": "x-b"},
        {"max_queue_bytes": 0},
        {"max_queue_per_key": 0},
        {"max_connections": 0},
        {"send_timeout": -1},
    ],
)
def test_an_option_that_makes_no_sense_is_refused(option: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(option))):
        ls.LitServer(EchoAPI(), **option)
