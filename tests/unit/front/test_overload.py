# SPDX-License-Identifier: Apache-2.0
"""Full queues and slow senders, in both lanes."""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
import time
from typing import TYPE_CHECKING

import httpx
import pytest
from tests.unit.front.house import EchoAPI, House, StreamAPI
from tests.unit.front.test_lanes import LANES, server_for
from tests.unit.front.test_wishes import Gate, wait_for

import cubbyhole as ls
from cubbyhole.core.entries import Chunk, Result
from cubbyhole.front.times import SlowReaders

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cubbyhole.core.entries import ClaimedEntry

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
            assert refused.status_code == 503
            with connected(url) as early:  # refused before a byte of its body is there
                early.sendall(HEAD)
                said = await asyncio.to_thread(early.recv, 4096)
            assert not any(task.done() for task in held)
            gate.open.set()
            served = await asyncio.gather(*held)
            again = await client.post("/predict", json="again")
    assert int(refused.headers["Retry-After"]) >= 1
    assert said.startswith(b"HTTP/1.1 503 ")
    assert [answer.status_code for answer in served] == [200] * 3
    assert again.status_code == 200
    assert "more" not in gate.order


async def test_retry_after_grows_while_no_answer_comes() -> None:
    gate = Gate()
    with House(server_for("fast", max_queue=20), gate) as house, house.over_http() as url:
        async with httpx.AsyncClient(base_url=url, timeout=20) as client:
            held = [asyncio.create_task(client.post("/predict", json="first"))]
            await wait_for(gate.held.is_set)
            held += [asyncio.create_task(client.post("/predict", json="next")) for _ in range(19)]
            await wait_for(lambda: house.channel.statistics().ready == 19)
            told = [0]
            while (
                told[-1] <= 5 and not gate.open.is_set()
            ):  # 20 wait, and none was answered in 0.25 s
                refused = await client.post("/predict", json="more")
                assert refused.status_code == 503, told
                told.append(int(refused.headers["Retry-After"]))
            gate.open.set()
            await asyncio.gather(*held)
    assert told == sorted(told)


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
            try:
                part = connection.recv(4096)
            except ConnectionResetError:  # closed while our byte was on its way
                return said
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


def said_by(connection: socket.socket) -> bytes:
    said = b""
    while part := connection.recv(65536):
        said += part
    return said


def test_idle_connections_over_max_connections_are_answered_503_and_closed() -> None:
    """Connections that never say anything would else take all descriptors."""
    house = House(server_for("fast", max_connections=20))
    with contextlib.ExitStack() as stack:
        stack.enter_context(house)
        url = stack.enter_context(house.over_http())
        idle = [stack.enter_context(connected(url)) for _ in range(20)]
        for connection in idle:  # answered, so that they are known to be open
            connection.sendall(HEAD.replace(b"1000", b"1") + b"1")
            assert connection.recv(4096).startswith(b"HTTP/1.1 200")
        for _ in range(50):
            with connected(url) as more:
                said = said_by(more)
                assert said.startswith(b"HTTP/1.1 503 ")
                assert b"retry-after: 1" in said
        with connected(url) as busy:
            assert busy.recv(4096).startswith(b"HTTP/1.1 503 ")
            for _ in range(5):  # it goes on sending what it had begun, and is not reset
                busy.sendall(HEAD + b"1" * 1000)
        idle[0].sendall(HEAD.replace(b"1000", b"1") + b"2")
        assert idle[0].recv(4096).startswith(b"HTTP/1.1 200")
        idle[0].close()
        give_up_s = time.monotonic() + 10
        while httpx.post(url + "/predict", json=1).status_code == 503:
            assert time.monotonic() < give_up_s


class Transport:
    """What `SlowReaders` sees of a connection."""

    def __init__(self, left_bytes: int) -> None:
        self.left_bytes = left_bytes
        self.aborted = False

    def get_extra_info(self, name: str) -> None:
        """Have no socket."""

    def get_write_buffer_size(self) -> int:
        return self.left_bytes

    def abort(self) -> None:
        self.aborted = True


class Connection:
    def __init__(self, left_bytes: int) -> None:
        self.transport = Transport(left_bytes)


@pytest.mark.parametrize(
    ("sizes", "aborted"),
    [
        ([50_000] * 12, True),  # never reads
        ([50_000 - 100 * second for second in range(12)], True),  # drips
        ([50_000 - 2_000 * second for second in range(12)], False),  # is slow, but reads
        ([50_000, 40_000] * 6, False),  # a stream: taken and written again
        ([500] * 9 + [0, 500, 500], False),  # had it all, and then more
        ([0] * 12, False),
    ],
)
def test_who_does_not_take_his_answer_is_cut_and_who_is_slow_is_not(
    sizes: list[int], aborted: bool
) -> None:
    slow, connection = SlowReaders(10.0), Connection(0)
    for second, size in enumerate(sizes):
        connection.transport.left_bytes = size
        slow.look([connection], float(second))
    assert connection.transport.aborted is aborted


@pytest.mark.parametrize("lane", LANES)
@pytest.mark.parametrize("kind", ["whole", "stream"])
def test_a_client_that_never_reads_is_cut_at_the_send_timeout(lane: str, kind: str) -> None:
    def large(entry: ClaimedEntry) -> Iterator[Chunk | Result]:
        if kind == "stream":
            while not entry.cancelled:
                yield Chunk(b"x" * 100_000)
        yield Result(b"x" * 50_000_000)

    api = StreamAPI(stream=True) if kind == "stream" else EchoAPI()
    server = server_for(lane, api, send_timeout=1)
    with House(server, large) as house, house.over_http() as url, connected(url) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        connection.sendall(HEAD.replace(b"1000", b"1") + b"1")
        with connected(url) as other:
            assert other is not connection  # others come and go meanwhile
        connection.settimeout(20)
        with pytest.raises(ConnectionResetError):
            wait_for_reset(connection)
        assert kind == "whole" or house.cancelled.wait(10)


def wait_for_reset(connection: socket.socket) -> None:
    """Do not read a byte; see the connection end."""
    poller = select.poll()
    poller.register(connection, 0)  # errors and hang-ups only
    assert poller.poll(20_000)
    while connection.recv(1 << 20):
        pass
