# SPDX-License-Identifier: Apache-2.0
"""Both lanes give the same answers: the fast one under uvicorn, the slow one through FastAPI."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import socket
from typing import TYPE_CHECKING, Any

import httpx
import msgspec
import pytest
from tests.unit.front.house import EchoAPI, House, StreamAPI, echo

import cubbyhole as ls
from cubbyhole.core.entries import Chunk, Failure, RequestMeta, Result, ResultMeta
from cubbyhole.core.errors import EntryTooLarge
from cubbyhole.front.exchange import ExchangeStatistics
from cubbyhole.front.intake import BodyTooLarge, read_body
from cubbyhole.front.pace import Pace

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from cubbyhole.core.entries import ClaimedEntry

LANES = ["fast", "slow"]


class Passing:
    """A user's middleware: its presence alone means the slow lane."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.app(scope, receive, send)


def server_for(lane: str, api: ls.LitAPI | None = None, **options: Any) -> ls.LitServer:
    middlewares = [Passing] if lane == "slow" else None
    return ls.LitServer(api or EchoAPI(), middlewares=middlewares, **options)


@contextlib.asynccontextmanager
async def serving(
    lane: str, model: Any, api: ls.LitAPI | None = None, **options: Any
) -> AsyncIterator[tuple[House, httpx.AsyncClient]]:
    with House(server_for(lane, api, **options), model) as house, house.over_http() as url:
        async with httpx.AsyncClient(base_url=url) as client:
            told = (await client.get("/info")).json()["server"]["lanes"]
            assert set(told.values()) == {lane}, "the lane under test must be the one that runs"
            yield house, client


def meta(entry: ClaimedEntry) -> RequestMeta:
    return msgspec.msgpack.decode(entry.meta, type=RequestMeta) if entry.meta else RequestMeta()


def answer_as_asked(entry: ClaimedEntry) -> Iterator[Result | Failure]:
    """Does what the body says, so that each case is one line of the table below."""
    ask = json.loads(bytes(entry.body))
    if not isinstance(ask, dict):
        yield Result(b"null")
    elif "fail" in ask:
        yield Failure("http_exception", ask["fail"], ask["detail"], ask.get("headers", {}))
    elif "size" in ask:
        yield Result(b'"' + b"x" * (ask["size"] - 2) + b'"')
    elif "type" in ask:
        headers = [("X-Mine", "1")]
        yield Result(b"raw", 201, msgspec.msgpack.encode(ResultMeta(ask["type"], headers)))
    else:
        yield Result(json.dumps(ask).encode())


CASES: list[tuple[str, dict[str, Any], int, dict[str, str]]] = [
    ("a result", {"a": 1}, 200, {"content-type": "application/json"}),
    ("a failure", {"fail": 418, "detail": "tea"}, 418, {"content-type": "application/json"}),
    ("its headers", {"fail": 429, "detail": 1, "headers": {"Retry-After": "7"}}, 429, {"retry-after": "7"}),
    ("unavailable", {"fail": 503, "detail": "no"}, 503, {"retry-after": "1"}),
    ("another type", {"type": "image/png"}, 201, {"content-type": "image/png", "x-mine": "1"}),
    ("no type", {"type": None}, 201, {"x-mine": "1"}),
    ("999 bytes", {"size": 999}, 200, {"content-length": "999"}),
    ("a large one", {"size": 300_000}, 200, {"content-encoding": "gzip", "vary": "Accept-Encoding"}),
]  # fmt: skip


@pytest.mark.parametrize("lane", LANES)
@pytest.mark.parametrize(
    ("name", "ask", "status", "headers"), CASES, ids=[case[0] for case in CASES]
)
async def test_answers(
    lane: str, name: str, ask: dict[str, Any], status: int, headers: dict[str, str]
) -> None:
    async with serving(lane, answer_as_asked) as (_, client):
        response = await client.post("/predict", json=ask)
    assert response.status_code == status
    assert {key: response.headers.get(key) for key in headers} == headers
    if "fail" in ask:
        assert response.json() == {"detail": ask["detail"]}
    if "size" in ask:
        assert len(response.content) == ask["size"]
    if ask.get("type", "") is None:
        assert "content-type" not in response.headers


@pytest.mark.parametrize("lane", LANES)
async def test_a_client_without_gzip_gets_plain_bytes(lane: str) -> None:
    async with serving(lane, answer_as_asked) as (_, client):
        response = await client.post(
            "/predict", json={"size": 5000}, headers={"Accept-Encoding": "identity"}
        )
    assert "content-encoding" not in response.headers
    assert response.headers["content-length"] == "5000"
    assert len(response.content) == 5000


@pytest.mark.parametrize("lane", LANES)
async def test_gzip_is_valid_and_whole(lane: str) -> None:
    async with (
        serving(lane, answer_as_asked) as (_, client),
        client.stream("POST", "/predict", json={"size": 200_000}) as response,
    ):
        raw = b"".join([part async for part in response.aiter_raw()])
    assert len(gzip.decompress(raw)) == 200_000
    assert len(raw) < 20_000


@pytest.mark.parametrize("lane", LANES)
@pytest.mark.parametrize("size", [0, 1, 31 * 1024, 32 * 1024, 33 * 1024, 5 << 20])
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
async def test_a_body_of_any_size_arrives_whole(lane: str, size: int, chunked: bool) -> None:
    body = bytes(range(256)) * (size // 256 + 1)
    body = body[:size]

    async def parts() -> AsyncIterator[bytes]:
        for start in range(0, size, 100_000):
            yield body[start : start + 100_000]

    def check(entry: ClaimedEntry) -> Iterator[Result]:
        yield Result(b"true" if bytes(entry.body) == body else b"false")

    async with serving(lane, check) as (_, client):
        response = await client.post("/predict", content=parts() if chunked else body)
    assert response.json() is True


@pytest.mark.parametrize("lane", LANES)
async def test_a_large_body_is_written_straight_into_the_channel(lane: str) -> None:
    kinds: list[type] = []

    def look(entry: Any) -> Iterator[Result]:
        kinds.append(type(entry.body.obj))
        yield Result(b"1")

    async with serving(lane, look) as (_, client):
        await client.post("/predict", content=b"x" * (2 << 20))
        await client.post("/predict", content=b"x")
    assert [kind.__name__ for kind in kinds] == ["MemoryReservation", "bytes"]


async def test_a_body_without_a_length_is_bounded_by_the_channel_while_it_grows() -> None:
    """Many uploads of unknown size at once must not fill the front's own memory."""
    reserved: list[int] = []

    def reserve(size_bytes: int) -> bytearray:
        reserved.append(size_bytes)
        if size_bytes > 300_000:
            raise EntryTooLarge("no room")
        return bytearray(size_bytes)

    async def receive() -> Any:
        return {"type": "http.request", "body": b"x" * 50_000, "more_body": True}

    first = {"type": "http.request", "body": b"x" * 50_000, "more_body": True}
    with pytest.raises(BodyTooLarge) as caught:
        await read_body(first, receive, {"headers": []}, 1 << 30, reserve, Pace(ExchangeStatistics))
    assert caught.value.unread
    assert reserved == [65536, 131072, 262144, 524288]


@pytest.mark.parametrize("lane", LANES)
async def test_what_a_worker_needs_beside_the_body_travels(lane: str) -> None:
    seen: list[RequestMeta] = []

    def look(entry: ClaimedEntry) -> Iterator[Result]:
        seen.append(meta(entry))
        yield Result(b"1")

    async with serving(lane, look) as (_, client):
        await client.post("/predict", json=1)
        response = await client.post(
            "/predict?a=1&b=2",
            data={"x": "y"},
            headers={"X-Request-ID": "r7", "traceparent": "00-1-2-3"},
        )
    assert seen[0] == RequestMeta()
    assert seen[1].content_type == "application/x-www-form-urlencoded"
    assert (seen[1].query, seen[1].request_id, seen[1].traceparent) == ("a=1&b=2", "r7", "00-1-2-3")
    assert response.headers["x-request-id"] == "r7"


@pytest.mark.parametrize("lane", LANES)
async def test_a_plain_json_request_costs_no_meta(lane: str) -> None:
    async with serving(lane, answer_as_asked) as (house, client):
        await client.post(
            "/predict", json=1, headers={"Content-Type": "application/json; charset=utf-8"}
        )
        assert house.claimed[0].meta == b""


@pytest.mark.parametrize("lane", LANES)
@pytest.mark.parametrize("limit", [1000, "1KB", "0.5MB"])
async def test_a_body_over_the_limit_is_413(lane: str, limit: Any) -> None:
    async with serving(lane, answer_as_asked, max_payload_size=limit) as (house, client):
        response = await client.post("/predict", content=b"1" * 600_000)
        assert response.status_code == 413
        assert response.json() == {"detail": "Payload too large"}
        assert house.claimed == []
        assert (await client.post("/predict", content=b"1")).status_code == 200


@pytest.mark.parametrize("lane", LANES)
@pytest.mark.parametrize(("size", "status"), [(1000, 200), (1001, 413)])
async def test_the_limit_is_the_last_size_that_passes(lane: str, size: int, status: int) -> None:
    async with serving(lane, echo, max_payload_size=1000) as (house, client):
        response = await client.post("/predict", content=b"1" * size)
        assert response.status_code == status
        assert len(house.claimed) == (status == 200)


@pytest.mark.parametrize("lane", LANES)
async def test_an_endless_body_is_answered_413_and_cut_off(lane: str) -> None:
    with (
        House(server_for(lane, max_payload_size=100_000), answer_as_asked) as house,
        house.over_http() as url,
    ):
        host, port = url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        head = "POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        try:
            writer.write(head.encode())
            answer = asyncio.create_task(reader.readuntil(b"}"))
            sent = 0
            with contextlib.suppress(ConnectionError):
                while sent < 64 << 20:  # ends before that, by the server closing
                    writer.write(b"10000\r\n" + b"x" * 65536 + b"\r\n")
                    await writer.drain()
                    await asyncio.sleep(
                        0
                    )  # drain may not pause, and who never looks reads no answer
                    sent += 65536
            assert sent < 64 << 20
            assert (await answer).startswith(b"HTTP/1.1 413")
        finally:  # at once, or the server waits for the rest when it ends
            writer.transport.abort()
            await asyncio.sleep(0)


@pytest.mark.parametrize("lane", LANES)
def test_who_reads_nothing_before_all_is_sent_finds_the_413(lane: str) -> None:
    """A connection that is closed while its client sends is reset, and the answer lost."""
    with (
        House(server_for(lane, max_payload_size=100_000), answer_as_asked) as house,
        house.over_http() as url,
    ):
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=10) as client:
            client.sendall(
                b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
            )
            for _ in range(128):  # 8 MiB
                client.sendall(b"10000\r\n" + b"x" * 65536 + b"\r\n")
            client.sendall(b"0\r\n\r\n")
            assert client.recv(65536).startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize("lane", LANES)
async def test_without_a_limit_the_arena_is_the_limit(lane: str) -> None:
    async with serving(lane, answer_as_asked, arena_bytes=1 << 20) as (_, client):
        assert (await client.post("/predict", content=b"1" * (2 << 20))).status_code == 413


@pytest.mark.parametrize("lane", LANES)
async def test_server_timing_tells_the_states(lane: str) -> None:
    async with serving(lane, answer_as_asked, server_timing=True) as (_, client):
        told = (await client.post("/predict", json=1)).headers["server-timing"]
    assert [part.split(";")[0] for part in told.split(", ")] == [
        "intake",
        "queue",
        "run",
        "collect",
    ]


def lines(entry: ClaimedEntry) -> Iterator[Chunk | Result]:
    head = msgspec.msgpack.encode(ResultMeta())
    for number in range(3):
        yield Chunk(b'{"n":%d}\n' % number, meta=head)
    yield Result(b"end\n")


@pytest.mark.parametrize("lane", LANES)
async def test_a_stream_is_its_chunks_and_its_end(lane: str) -> None:
    async with serving(lane, lines, StreamAPI(stream=True)) as (_, client):
        response = await client.post("/predict", json=1)
    assert response.status_code == 200
    assert response.text == '{"n":0}\n{"n":1}\n{"n":2}\nend\n'
    assert "content-type" not in response.headers
    assert "content-length" not in response.headers


@pytest.mark.parametrize("lane", LANES)
async def test_a_stream_that_fails_at_once_has_its_real_status(lane: str) -> None:
    def fails(entry: ClaimedEntry) -> Iterator[Failure]:
        yield Failure("http_exception", 422, ["wrong"])

    async with serving(lane, fails, StreamAPI(stream=True)) as (_, client):
        response = await client.post("/predict", json=1)
    assert (response.status_code, response.json()) == (422, {"detail": ["wrong"]})


@pytest.mark.parametrize("lane", LANES)
async def test_a_stream_that_fails_later_does_not_end_as_if_it_were_whole(lane: str) -> None:
    def breaks(entry: ClaimedEntry) -> Iterator[Chunk | Failure]:
        yield Chunk(b"one\n")
        yield Failure("predict_failed")

    async with serving(lane, breaks, StreamAPI(stream=True)) as (_, client):
        got = []
        async with client.stream("POST", "/predict", json=1) as response:
            with pytest.raises(httpx.RemoteProtocolError):
                got.extend([part async for part in response.aiter_raw()])
        assert response.status_code == 200
        assert (await client.get("/health")).status_code == 200


async def test_no_middleware_ends_a_broken_stream_as_if_it_were_whole() -> None:
    def breaks(entry: ClaimedEntry) -> Iterator[Chunk | Failure]:
        yield Chunk(b"one\n")
        yield Failure("predict_failed")

    server = ls.LitServer(StreamAPI(stream=True))

    @server.app.middleware("http")
    async def mine(request: Any, call_next: Any) -> Any:
        return await call_next(request)

    with House(server, breaks) as house, house.over_http() as url:
        async with (
            httpx.AsyncClient(base_url=url) as client,
            client.stream("POST", "/predict", json=1) as response,
        ):
            with pytest.raises(httpx.RemoteProtocolError):
                await response.aread()


@pytest.mark.parametrize("lane", LANES)
async def test_a_connection_carries_many_requests(lane: str) -> None:
    async with serving(lane, answer_as_asked) as (house, client):
        for number in range(50):
            assert (await client.post("/predict", json={"n": number})).json() == {"n": number}
        # one connection in the pool means that none was closed in between
        assert len(client._transport._pool.connections) == 1  # type: ignore[attr-defined]
        assert len(house.claimed) == 50


@pytest.mark.parametrize("lane", LANES)
async def test_the_api_key_guards_the_api(lane: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cubbyhole.server.LIT_SERVER_API_KEY", "secret")
    with House(server_for(lane)) as house, house.over_http() as url:
        async with httpx.AsyncClient(base_url=url) as client:
            missing = await client.post("/predict", json=1)
            wrong = await client.post("/predict", json=1, headers={"X-API-Key": "secreT"})
            odd = await client.post("/predict", json=1, headers=[(b"X-API-Key", b"\xff\xfe")])
            right = await client.post("/predict", json=1, headers={"X-API-Key": "secret"})
            closed = [(await client.get(path)).status_code for path in ("/", "/health", "/info")]
            opened = (await client.get("/docs")).status_code
    assert (missing.status_code, missing.json()) == (401, {"detail": "Not authenticated"})
    assert wrong.status_code == 401
    assert wrong.json()["detail"].startswith(
        "Invalid API Key. Check that you are passing a correct"
    )
    assert odd.status_code == 401
    assert right.status_code == 200
    assert closed == [401, 401, 401]
    assert opened == 200
    assert len(house.claimed) == 1
