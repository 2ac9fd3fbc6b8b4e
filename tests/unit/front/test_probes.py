# SPDX-License-Identifier: Apache-2.0
"""Probes of an orchestrator: truthful, apart, open to all, and of one word."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from tests.unit.front.house import EchoAPI, House
from tests.unit.front.test_lanes import LANES, server_for
from tests.unit.front.test_wishes import Gate, wait_for

import cubbyhole as ls
from cubbyhole.core.roster import ProcessState


async def asked(client: httpx.AsyncClient, *paths: str) -> list[tuple[int, str]]:
    answers = [await client.get(path) for path in paths]
    return [(answer.status_code, answer.text) for answer in answers]


def set_worker(house: House, index: int, state: ProcessState) -> None:
    house.roster.set_state(house.roster.worker_cell(index), state)


async def test_startup_waits_for_all_workers_once_and_ready_follows_the_present() -> None:
    server = ls.LitServer(EchoAPI(), accelerator="cpu", workers_per_device=2)
    with House(server) as house:
        set_worker(house, 0, ProcessState.STARTING)
        set_worker(house, 1, ProcessState.STARTING)
        async with house.client() as client:
            paths = ("/health/live", "/health/ready", "/health/startup")
            starting = await asked(client, *paths)
            set_worker(house, 0, ProcessState.READY)
            half = await asked(client, *paths, "/health")
            set_worker(house, 1, ProcessState.READY)
            whole = await asked(client, *paths, "/health")
            set_worker(house, 0, ProcessState.STARTING)
            again = await asked(client, *paths, "/health")
            set_worker(house, 1, ProcessState.ERROR)
            none = await asked(client, *paths)
    assert starting == [(200, "live"), (503, "not ready"), (503, "starting")]
    assert half == [(200, "live"), (200, "ready"), (503, "starting"), (503, "not ready")]
    assert whole == [(200, "live"), (200, "ready"), (200, "started"), (200, "ok")]
    assert again == [(200, "live"), (200, "ready"), (200, "started"), (503, "not ready")]
    assert none == [(200, "live"), (503, "not ready"), (200, "started")]


async def test_every_api_must_have_a_worker_to_be_ready() -> None:
    apis = [EchoAPI(api_path="/one"), EchoAPI(api_path="/two")]
    with House(ls.LitServer(apis, accelerator="cpu")) as house:
        set_worker(house, 1, ProcessState.STARTING)
        async with house.client() as client:
            assert await asked(client, "/health/ready") == [(503, "not ready")]


@pytest.mark.parametrize("who", ["front", "supervisor"])
async def test_a_server_that_drains_is_alive_but_not_ready(who: str) -> None:
    with House(server_for("fast")) as house:
        async with house.client() as client:
            assert await asked(client, "/health/ready") == [(200, "ready")]
            cell = 0 if who == "front" else house.roster.supervisor
            house.roster.set_state(cell, ProcessState.DRAINING)
            answers = await asked(client, "/health/ready", "/health/live")
    assert answers == [(503, "not ready"), (200, "live")]


async def test_a_front_without_its_supervisor_is_not_alive() -> None:
    with House(server_for("fast")) as house:
        house.roster.set_pid(house.roster.supervisor, 2**22)  # beyond the largest pid
        async with house.client() as client:
            assert await asked(client, "/health/live") == [(503, "not live")]


@pytest.mark.parametrize("configured", [True, False])
async def test_a_full_queue_is_not_ready_only_where_the_operator_says_so(configured: bool) -> None:
    gate = Gate()
    server = server_for("fast", max_queue=1, unready_when_full=configured)
    with House(server, gate) as house, house.over_http() as url:
        async with httpx.AsyncClient(base_url=url, timeout=10) as client:
            held = asyncio.create_task(client.post("/predict", json="first"))
            await wait_for(gate.held.is_set)
            full = await asked(client, "/health/ready", "/health/live")
            gate.open.set()
            await held
            empty = await asked(client, "/health/ready")
    assert full[0][0] == (503 if configured else 200)
    assert full[1][0] == 200
    assert empty == [(200, "ready")]


@pytest.mark.parametrize("lane", LANES)
async def test_probes_ask_for_no_key_where_health_does(
    lane: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cubbyhole.server.LIT_SERVER_API_KEY", "secret")
    with House(server_for(lane)) as house:
        async with house.client() as client:
            paths = ("/health/live", "/health/ready", "/health/startup", "/health")
            answers = await asked(client, *paths)
    assert [status for status, _ in answers] == [200, 200, 200, 401]


async def test_probes_lie_below_the_health_path_and_count_as_no_request() -> None:
    server = ls.LitServer(EchoAPI(), healthcheck_path="/up", track_requests=True)
    with House(server) as house:
        async with house.client() as client:
            assert await asked(client, "/up/live") == [(200, "live")]
            assert (await client.get("/health/live")).status_code == 404
