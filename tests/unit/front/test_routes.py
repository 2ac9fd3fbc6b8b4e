# SPDX-License-Identifier: Apache-2.0
"""What the app offers beside the lanes, and which lane a path takes."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from fastapi import Depends, HTTPException, Request
from fastapi.responses import JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel
from starlette.testclient import TestClient
from tests.unit.front.house import EchoAPI, House, StreamAPI
from tests.unit.front.test_lanes import Passing

import cubbyhole as ls
from cubbyhole.core.entries import Failure, Result
from cubbyhole.core.roster import ProcessState


class Wanted(BaseModel):
    text: str


class Given(BaseModel):
    length: int


class TypedAPI(EchoAPI):
    def decode_request(self, request: Wanted, **_: Any) -> Any:
        return request

    def encode_response(self, output: Any, **_: Any) -> Given:
        return Given(length=output)


class AuthorizedAPI(EchoAPI):
    async def authorize(
        self,
        request: Request,
        auth: HTTPAuthorizationCredentials = Depends(HTTPBearer()),  # noqa: B008
    ) -> None:
        await request.body()  # a signature over the body, say
        if auth.credentials != "1234":
            raise HTTPException(401, "Bad token")


def test_index_health_and_info() -> None:
    server = ls.LitServer(EchoAPI(), model_metadata={"name": "m"}, timeout=12)
    with House(server) as house, TestClient(server.app) as client:
        index = client.get("/")
        assert (index.status_code, index.text) == (200, "litserve running")
        assert "content-type" not in index.headers
        assert client.get("/health").text == "ok"
        told = client.get("/info").json()
        assert told["model"] == {"name": "m"}
        assert told["server"] == {
            "devices": ["cpu"],
            "workers_per_device": 1,
            "timeout": 12,
            "stream": {"/predict": False},
            "max_payload_size": None,
            "track_requests": False,
            "channel": house.channel.kind,
            "lanes": {"/predict": "slow"},  # a test client is not the front's uvicorn
        }


@pytest.mark.parametrize("cell", ["worker", "front", "supervisor"])
def test_health_is_503_unless_everybody_is_ready(cell: str) -> None:
    server = ls.LitServer(EchoAPI())
    with House(server) as house, TestClient(server.app) as client:
        roster = house.roster
        cells = {"worker": roster.worker_cell(0), "front": 0, "supervisor": roster.supervisor}
        before = roster.state(cells[cell])
        roster.set_state(cells[cell], ProcessState.DRAINING)
        refused = client.get("/health")
        assert (refused.status_code, refused.text) == (503, "not ready")
        roster.set_state(cells[cell], before)
        assert client.get("/health").status_code == 200


@pytest.mark.parametrize("kind", ["false", "raises", "async false"])
def test_health_asks_every_api(kind: str) -> None:
    class Ill(EchoAPI):
        def health(self) -> Any:
            if kind == "raises":
                raise OSError("no disk")
            return self.slowly() if kind == "async false" else False

        async def slowly(self) -> bool:
            return False

    server = ls.LitServer([EchoAPI(api_path="/a"), Ill(api_path="/b")])
    with House(server, workers=2), TestClient(server.app) as client:
        assert client.get("/health").status_code == 503


def test_before_the_front_is_open_there_is_no_health_and_no_answer() -> None:
    server = ls.LitServer(EchoAPI())
    with TestClient(server.app) as client:
        assert client.get("/health").status_code == 503
        assert client.post("/predict", json=1).status_code == 503


def test_paths_and_methods_that_do_not_exist() -> None:
    server = ls.LitServer(EchoAPI(), disable_openapi_url=True)
    with House(server), TestClient(server.app) as client:
        assert client.get("/nowhere").json() == {"detail": "Not Found"}
        wrong = client.get("/predict")
        assert (wrong.status_code, wrong.json()) == (405, {"detail": "Method Not Allowed"})
        assert [client.get(p).status_code for p in ("/docs", "/openapi.json", "/redoc")] == [
            404
        ] * 3


def test_the_document_names_the_models_of_an_api() -> None:
    server = ls.LitServer(TypedAPI(api_path="/typed"))
    with TestClient(server.app) as client:
        document = client.get("/openapi.json").json()
    operation = document["paths"]["/typed"]["post"]
    asked = operation["requestBody"]["content"]["application/json"]["schema"]
    answered = operation["responses"]["200"]["content"]["application/json"]["schema"]
    assert asked == {"$ref": "#/components/schemas/Wanted"}
    assert answered == {"$ref": "#/components/schemas/Given"}
    assert document["components"]["schemas"]["Wanted"]["required"] == ["text"]
    assert document["components"]["schemas"]["Given"]["properties"]["length"]["type"] == "integer"
    assert document["info"] == {"title": "FastAPI", "version": "0.1.0"}


async def lanes_of(server: ls.LitServer, **uvicorn_options: Any) -> dict[str, str]:
    with (
        House(server, workers=len(server.lit_apis)) as house,
        house.over_http(**uvicorn_options) as url,
    ):
        async with httpx.AsyncClient(base_url=url) as client:
            found: dict[str, str] = (await client.get("/info")).json()["server"]["lanes"]
            return found


async def test_only_the_api_that_user_code_must_see_takes_the_slow_lane() -> None:
    server = ls.LitServer([EchoAPI(api_path="/a"), AuthorizedAPI(api_path="/b")])
    assert await lanes_of(server) == {"/a": "fast", "/b": "slow"}


async def test_defaults_keep_the_fast_lane() -> None:
    server = ls.LitServer(EchoAPI(), max_payload_size="1MB", track_requests=True)
    assert await lanes_of(server) == {"/predict": "fast"}


async def test_what_is_added_to_the_app_before_run_decides_the_lane() -> None:
    with_middleware, with_handler, with_override, with_route = (
        ls.LitServer(EchoAPI()) for _ in range(4)
    )
    with_middleware.app.add_middleware(Passing)
    with_handler.app.add_exception_handler(HTTPException, lambda *_: JSONResponse({}))
    with_override.app.dependency_overrides[len] = max
    with_route.app.get("/more")(lambda: 1)
    assert await lanes_of(with_middleware) == {"/predict": "slow"}
    assert await lanes_of(with_handler) == {"/predict": "slow"}
    assert await lanes_of(with_override) == {"/predict": "slow"}
    assert await lanes_of(with_route) == {"/predict": "fast"}


async def test_a_route_that_stands_before_ours_is_not_jumped_over() -> None:
    server = ls.LitServer(EchoAPI())

    async def mine() -> str:
        return "mine"

    server.app.post("/predict")(mine)
    server.app.router.routes.insert(0, server.app.router.routes.pop())
    with House(server) as house, house.over_http() as url:
        async with httpx.AsyncClient(base_url=url) as client:
            assert (await client.post("/predict")).json() == "mine"


async def test_a_root_path_leads_to_the_fast_lane_too() -> None:
    server = ls.LitServer(EchoAPI())
    with House(server) as house, house.over_http(root_path="/models") as url:
        async with httpx.AsyncClient(base_url=url) as client:
            assert (await client.post("/predict", json=3)).json() == 3
            assert house.server.desk.exchange.statistics().submitted_total == 1  # type: ignore[union-attr]


async def test_authorize_guards_its_api_and_may_read_the_body() -> None:
    server = ls.LitServer(AuthorizedAPI())
    with House(server) as house, house.over_http() as url:
        async with httpx.AsyncClient(base_url=url) as client:
            assert (await client.post("/predict", json=1)).status_code in {401, 403}
            bad = await client.post("/predict", json=1, headers={"Authorization": "Bearer x"})
            assert (bad.status_code, bad.json()) == (401, {"detail": "Bad token"})
            client.headers["Authorization"] = "Bearer 1234"
            assert (await client.post("/predict", json={"a": 1})).json() == {"a": 1}
            assert (await client.get("/health")).status_code == 200
    assert len(house.claimed) == 1


async def test_handlers_of_users_see_failures() -> None:
    server = ls.LitServer(EchoAPI())

    @server.app.exception_handler(HTTPException)
    async def teapot(request: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse({"mine": error.detail}, 418)

    def fail(entry: Any) -> Any:
        yield Failure("http_exception", 404, "gone")

    with House(server, fail) as house, house.over_http() as url:
        async with httpx.AsyncClient(base_url=url) as client:
            response = await client.post("/predict", json=1)
    assert (response.status_code, response.json()) == (418, {"mine": "gone"})


async def test_shutdown_asks_with_its_key_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cubbyhole.server.SHUTDOWN_API_KEY", "stop-it")
    server = ls.LitServer(EchoAPI(), enable_shutdown_api=True, shutdown_path="/off")
    asked: list[int] = []
    with House(server), TestClient(server.app) as client:
        right = {"Authorization": "Bearer stop-it"}
        assert client.post("/off", headers=right).json() == {
            "detail": "Server is still starting up"
        }
        server.desk.shut_down = lambda: asked.append(1)
        wrong = client.post("/off", headers={"Authorization": "Bearer stop"})
        assert client.post("/off").status_code == wrong.status_code == 401
        assert wrong.json()["detail"].startswith("Invalid Bearer token for Shutdown API.")
        assert asked == []
        done = client.post("/off", headers=right)
    assert (done.status_code, done.text) == (200, "Server is initiating graceful shutdown.")
    assert asked == [1]


def test_without_a_shutdown_key_one_is_made_up_and_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("cubbyhole.server.SHUTDOWN_API_KEY", None)
    server = ls.LitServer(EchoAPI(), enable_shutdown_api=True)
    key = caplog.messages[0].split(": ")[-1]
    assert "`LIT_SHUTDOWN_API_KEY` environment variable is missing" in caplog.messages[0]
    with TestClient(server.app) as client:
        assert client.post("/shutdown").status_code == 401
        right = {"Authorization": f"Bearer {key}"}
        assert client.post("/shutdown", headers=right).status_code == 503


class Told(ls.Callback):
    def __init__(self) -> None:
        self.events: list[tuple[str, Any]] = []

    def on_server_start(self, *_: Any, litserver: Any, **__: Any) -> None:
        self.events.append(("start", type(litserver).__name__))

    def on_request(self, *_: Any, active_requests: Any, **__: Any) -> None:
        self.events.append(("request", active_requests))

    def on_response(self, *_: Any, **__: Any) -> None:
        self.events.append(("response", None))
        raise RuntimeError("a callback must not cost a request")

    def on_server_end(self, *_: Any, **__: Any) -> None:
        self.events.append(("end", None))


@pytest.mark.parametrize("middlewares", [None, [Passing]], ids=["fast", "slow"])
@pytest.mark.parametrize("stream", [False, True])
async def test_callbacks_hear_of_requests_and_answers(middlewares: Any, stream: bool) -> None:
    told = Told()
    api = StreamAPI(stream=True) if stream else EchoAPI()
    server = ls.LitServer(api, callbacks=told, middlewares=middlewares, track_requests=True)
    with House(server) as house, house.over_http() as url:
        async with httpx.AsyncClient(base_url=url) as client:
            assert (await client.post("/predict", json=1)).text == "1"
        assert server.active_requests == 0
    expected = [("start", "LitServer"), ("request", 1), ("response", None), ("end", None)]
    assert told.events == expected


def test_without_tracking_there_is_no_count() -> None:
    assert ls.LitServer(EchoAPI()).active_requests is None


def test_limits_hold_for_routes_of_users_too() -> None:
    server = ls.LitServer(EchoAPI(), max_payload_size=10)

    @server.app.post("/mine")
    async def mine(request: Request) -> int:
        return len(await request.body())

    with House(server), TestClient(server.app) as client:
        assert client.post("/mine", content=b"x" * 10).json() == 10
        too_large = client.post("/mine", content=b"x" * 11)
        assert (too_large.status_code, too_large.json()) == (413, {"detail": "Payload too large"})
        chunked = client.post("/mine", content=iter([b"x" * 6, b"x" * 6]))
        assert chunked.status_code == 413


def test_a_test_client_is_served_without_uvicorn() -> None:
    server = ls.LitServer(StreamAPI(stream=True))

    def model(entry: Any) -> Any:
        yield Result(b"whole")

    with House(server, model), TestClient(server.app) as client:
        assert client.post("/predict", json=1).text == "whole"
        assert server.workers_setup_status == {"predict_0": "ready"}
