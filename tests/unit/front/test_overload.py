# SPDX-License-Identifier: Apache-2.0
"""Full queues and slow senders, in both lanes."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from typing import TYPE_CHECKING

import httpx
import pytest
from tests.unit.front.house import EchoAPI, House
from tests.unit.front.test_lanes import LANES, server_for
from tests.unit.front.test_wishes import Gate, wait_for

import cubbyhole as ls

if TYPE_CHECKING:
    from collections.abc import Iterator

HEAD = b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n"


@pytest.mark.parametrize("lane", LANES)
async def test_over_max_queue_the_answer_is_503_at_once_and_later_there_is_room(lane: str) -> None:
    gate = Gate()
    with House(server_for(lane, max_queue=3), gate) as house, house.over_http() as url:
        async with httpx.AsyncClient(base_url=url, timeout=10) as client:
            held = [asyncio.create_task(client.post("/predict", json="first"))]
            await wait_for(gate.held.is_set)
            held += [asyncio.create_task(client.post("/predict", json="next")) for _ in range(2)]
            await wait_for(lambda: house.channel.statistics().ready == 2)
            refused = await client.post("/predict", json="more")
            assert not any(task.done() for task in held)
            gate.open.set()
            served = await asyncio.gather(*held)
            again = await client.post("/predict", json="again")
    assert refused.status_code == 503
    assert int(refused.headers["Retry-After"]) >= 1
    assert [answer.status_code for answer in served] == [200] * 3
    assert again.status_code == 200
    assert "more" not in gate.order


@contextlib.contextmanager
def connected(url: str) -> Iterator[socket.socket]:
    host, _, port = url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        yield connection


def drip(connection: socket.socket, byte: bytes) -> bytes:
    """Send a byte now and then, until the server has had enough; what it said."""
    connection.settimeout(0.05)
    give_up_s = time.monotonic() + 10
    said = b""
    while time.monotonic() < give_up_s:
        with contextlib.suppress(TimeoutError):
            part = connection.recv(4096)
            if not part:
                return said
            said += part
            continue
        with contextlib.suppress(ConnectionError):
            connection.send(byte)
    raise AssertionError(f"the server still listens to a dripping client; it said {said!r}")


@pytest.mark.parametrize("lane", LANES)
def test_a_dripping_body_is_answered_408_and_the_connection_closed(lane: str) -> None:
    server = server_for(lane, receive_timeout=0.3)
    with House(server) as house, house.over_http() as url:
        with connected(url) as connection:
            connection.sendall(HEAD)
            said = drip(connection, b" ")
        assert said.startswith(b"HTTP/1.1 408 ")
        assert b"connection: close" in said.lower()
        assert httpx.post(url + "/predict", json=1).json() == 1
    assert [bytes(entry.body) for entry in house.claimed] == [b"1"]


def test_the_requests_own_timeout_bounds_a_dripping_body_too() -> None:
    with (
        House(server_for("fast", timeout=0.3)) as house,
        house.over_http() as url,
        connected(url) as connection,
    ):
        connection.sendall(HEAD)
        assert drip(connection, b" ").startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize("first", ["a fresh connection", "a second request"])
def test_a_dripping_head_ends_the_connection(first: str) -> None:
    """uvicorn has no limit for this; without ours, a client holds a descriptor for as long as it likes."""
    with House(server_for("fast", receive_timeout=0.5)) as house, house.over_http() as url:
        with connected(url) as connection:
            if first == "a second request":
                body = HEAD.replace(b"1000", b"1") + b"1"
                connection.sendall(body)
                assert connection.recv(4096).startswith(b"HTTP/1.1 200")
            connection.sendall(b"POST /predict HTTP/1.1\r\nX-Slow: ")
            assert drip(connection, b"x") == b""
        assert httpx.post(url + "/predict", json=1).json() == 1


def test_a_slow_model_is_no_slow_sender() -> None:
    def think(entry: object) -> Iterator[object]:
        from cubbyhole.core.entries import Result

        time.sleep(1.6)  # the model's own time
        yield Result(b"2")

    server = server_for("fast", receive_timeout=0.5)
    with House(server, think) as house, house.over_http() as url:  # type: ignore[arg-type]
        assert httpx.post(url + "/predict", json=1, timeout=10).json() == 2


def test_uvicorns_limit_of_connections_is_passed_on() -> None:
    with House(server_for("fast")) as house, house.over_http(limit_concurrency=2) as url:
        with connected(url), connected(url):
            answer = httpx.post(url + "/predict", json=1)
        assert answer.status_code == 503


@pytest.mark.parametrize(
    "option",
    [{"max_queue": 0}, {"receive_timeout": -1}, {"queue_timeout": 0}, {"execution_timeout": -2}],
)
def test_a_limit_that_admits_nobody_is_refused(option: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(option))):
        ls.LitServer(EchoAPI(), **option)  # type: ignore[arg-type]


async def test_taking_requests_back_asks_for_the_key_and_is_off_unless_enabled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("cubbyhole.server.LIT_SERVER_API_KEY", "secret")
    key = {"X-API-Key": "secret"}
    statuses = []
    for enabled in (True, False):
        house = House(server_for("fast", cancel_by_id=enabled))
        with house:
            async with house.client() as client:
                statuses.append((await client.delete("/requests/a")).status_code)
                statuses.append((await client.delete("/requests/a", headers=key)).status_code)
    assert statuses == [401, 202, 404, 404]
