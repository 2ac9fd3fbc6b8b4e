# SPDX-License-Identifier: Apache-2.0
"""`/metrics` steps aside for what users put there, and answers without a channel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import Response
from prometheus_client.parser import text_string_to_metric_families
from tests.unit.front.house import EchoAPI, House

import cubbyhole as ls

if TYPE_CHECKING:
    import pytest


async def users(scope: Any, receive: Any, send: Any) -> None:
    del receive
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"users"})


async def test_the_official_parser_reads_it() -> None:
    with House(ls.LitServer(EchoAPI())) as house:
        async with house.client() as client:
            await client.post("/predict", json={})
            text = (await client.get("/metrics")).text
    names = {family.name for family in text_string_to_metric_families(text)}
    assert {"cubbyhole_requests", "cubbyhole_workers", "cubbyhole_queue_depth"} <= names


async def test_a_route_of_the_user_comes_first() -> None:
    with House(ls.LitServer(EchoAPI())) as house:
        house.server.app.add_api_route("/metrics", lambda: Response("users"))
        async with house.client() as client:
            assert (await client.get("/metrics")).text == "users"


async def test_a_mount_of_the_user_comes_first() -> None:
    with House(ls.LitServer(EchoAPI())) as house:
        house.server.app.mount("/metrics", users)
        async with house.client(follow_redirects=True) as client:
            assert (await client.get("/metrics")).text == "users"


async def test_it_is_not_in_the_document() -> None:
    with House(ls.LitServer(EchoAPI())) as house:
        assert "/metrics" not in house.server.app.openapi()["paths"]


async def test_it_takes_the_key_that_the_models_take(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cubbyhole.server.LIT_SERVER_API_KEY", "secret")
    with House(ls.LitServer(EchoAPI())) as house:
        async with house.client() as client:
            assert (await client.get("/metrics")).status_code == 401
            answer = await client.get("/metrics", headers={"X-API-Key": "secret"})
            assert answer.status_code == 200
