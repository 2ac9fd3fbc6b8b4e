# SPDX-License-Identifier: Apache-2.0
"""Section 12: users' middlewares, the size limit, compression."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import requests
from parity_apis import Anything, Square, Stream
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.httpsredirect import HTTPSRedirectMiddleware

import cubbyhole as ls

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request

    from cubbyhole.testing.serving import Served

    Serve = Callable[[Callable[[], ls.LitServer]], Served]


class RequestId(BaseHTTPMiddleware):
    def __init__(self, app: Any, length: int) -> None:
        super().__init__(app)
        self.length = length

    async def dispatch(self, request: Request, call_next: Any) -> Any:
        response = await call_next(request)
        response.headers["X-Request-Id"] = "0" * self.length
        return response


class Outer:
    """A plain ASGI middleware."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def named(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-outer", b"1")]
            await send(message)

        await self.app(scope, receive, named)


def with_middlewares() -> ls.LitServer:
    return ls.LitServer(Square(), middlewares=[(RequestId, {"length": 5}), Outer])


def redirecting() -> ls.LitServer:
    return ls.LitServer(Square(), middlewares=[HTTPSRedirectMiddleware])


def plain() -> ls.LitServer:
    return ls.LitServer(Anything())


def streaming() -> ls.LitServer:
    return ls.LitServer(Stream(stream=True))


def test_middlewares_see_every_answer(serve: Serve) -> None:
    answer = requests.post(f"{serve(with_middlewares).url}/predict", json={"input": 2}, timeout=10)
    assert answer.json() == {"output": 4}
    assert answer.headers["x-request-id"] == "00000"
    assert answer.headers["x-outer"] == "1"
    info = requests.get(f"{serve(with_middlewares).url}/info", timeout=10).json()
    assert info["server"]["lanes"] == {"/predict": "slow"}


def test_a_middleware_may_answer_by_itself(serve: Serve) -> None:
    answer = requests.post(
        f"{serve(redirecting).url}/predict", json={}, timeout=10, allow_redirects=False
    )
    assert answer.status_code == 307


def test_the_callers_list_is_left_alone() -> None:
    """Defect 39."""
    mine: list[Any] = [Outer]
    ls.LitServer(Square(), middlewares=mine, max_payload_size=10)
    assert mine == [Outer]


def test_middlewares_must_be_a_list() -> None:
    with pytest.raises(ValueError, match="middlewares must be a list of tuples"):
        ls.LitServer(Square(), middlewares=(RequestId, {"length": 5}))  # type: ignore[arg-type]


@pytest.mark.parametrize(("size", "coding"), [(2000, "gzip"), (500, None)])
def test_long_answers_are_compressed(serve: Serve, size: int, coding: str | None) -> None:
    answer = requests.post(f"{serve(plain).url}/predict", json="x" * size, timeout=10)
    assert answer.headers.get("content-encoding") == coding
    assert answer.json() == "x" * size


def test_nothing_is_compressed_where_an_api_streams(serve: Serve) -> None:
    answer = requests.post(f"{serve(streaming).url}/predict", json={"count": 500}, timeout=10)
    assert "content-encoding" not in answer.headers


@pytest.mark.parametrize("limit", ["1KB", "1kb", 1000, 1000.0])
def test_the_limit_may_be_text(limit: Any) -> None:
    """Defect 22: text, as documented, made every request 500."""
    server = ls.LitServer(Square(), max_payload_size=limit)
    assert server.settings.max_payload_bytes == 1000
