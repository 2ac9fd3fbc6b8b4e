# SPDX-License-Identifier: Apache-2.0
"""`/` is LitServe's line until a user puts something of his own there."""

from __future__ import annotations

import httpx
import pytest
from fastapi import FastAPI, Response

import cubbyhole as ls


class Echo(ls.LitAPI):
    def predict(self, x: object) -> object:
        return x


async def ask(app: FastAPI, path: str) -> tuple[int, str]:
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
        answer = await client.get(path)
        return answer.status_code, answer.text


@pytest.fixture
def server() -> ls.LitServer:
    return ls.LitServer(Echo())


async def test_without_a_page_the_index_is_litserves_line(server: ls.LitServer) -> None:
    assert await ask(server.app, "/") == (200, "litserve running")


async def test_a_route_of_the_user_replaces_the_index(server: ls.LitServer) -> None:
    @server.app.get("/")
    async def page() -> Response:
        return Response("mine")

    assert await ask(server.app, "/") == (200, "mine")


async def test_a_mount_of_the_user_replaces_the_index_and_nothing_else(
    server: ls.LitServer,
) -> None:
    files = FastAPI()
    files.add_api_route("/", lambda: "files")
    server.app.mount("/", files)
    assert await ask(server.app, "/") == (200, '"files"')
    assert (await ask(server.app, "/info"))[0] == 200


async def test_a_post_route_at_the_index_leaves_get_alone(server: ls.LitServer) -> None:
    server.app.add_api_route("/", lambda: "posted", methods=["POST"])
    assert await ask(server.app, "/") == (200, "litserve running")
