# SPDX-License-Identifier: Apache-2.0
"""Kills under mixed load, clients that vanish anywhere, a full arena: everybody else has his own answer, and nothing is left."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import struct
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from tests.integration.processes import SERVERS, Asking, descendants, living

from cubbyhole.testing.serving import serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WaitUntil = Callable[..., object]
SEED = 20
SIZES = (
    10,
    3_000,
    60_000,
    1_500_000,
)  # in the slot, in a class of blocks, in a reservation, in a run of extents
KILLS = 6


def held(url: str) -> dict[str, int]:
    answer: dict[str, int] = httpx.get(url + "/held", timeout=10).json()
    return answer


def wait_for_nothing_held(url: str, before: dict[str, int], wait_until: WaitUntil) -> None:
    """Slots and blocks as in a fresh server, and no more descriptors than before."""

    now: dict[str, int] = {}

    def nothing() -> bool:
        now.update(held(url))
        return now["slots"] == 0 and all(now[name] <= before[name] for name in before)

    with contextlib.suppress(pytest.fail.Exception):
        wait_until(nothing, timeout_s=10.0)
    assert nothing(), f"held at the end: {now}, at the beginning: {before}"


class Client(threading.Thread):
    """Asks until it is told to stop; notes each answer that is neither its own nor a clean refusal."""

    def __init__(self, url: str, number: int, stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self.wrong: list[Any] = []
        self.served = self.refused = 0
        self._url = url
        self._chance = random.Random(SEED + number)
        self._number = number
        self._asked = 0
        self._told_to_stop = stop

    def run(self) -> None:
        """Ask on connections of its own."""
        with httpx.Client(base_url=self._url, timeout=25) as client:
            while not self._told_to_stop.is_set():
                self._asked += 1
                if self._asked % 5 == 0:
                    self._stream(client)
                else:
                    self._echo(client)

    def ask_both(self, client: httpx.Client) -> None:
        """Ask once in each way."""
        self._echo(client)
        self._stream(client)

    def _echo(self, client: httpx.Client) -> None:
        data = self._chance.choice("abcdef") * self._chance.choice(SIZES)
        sent = {"id": [self._number, self._asked], "data": data, "sleep_s": 0.005}
        answer = client.post("/predict", json=sent)
        if answer.status_code == 503 and int(answer.headers["Retry-After"]) >= 1:
            self.refused += 1
        elif answer.status_code == 200 and answer.json() == sent:
            self.served += 1
        else:
            self.wrong.append((answer.status_code, answer.text[:200]))

    def _stream(self, client: httpx.Client) -> None:
        count = self._chance.randrange(1, 400)
        try:
            answer = client.post("/stream", json={"input": count})
        except httpx.RemoteProtocolError:  # broken off in mid-stream, and the client can tell
            self.refused += 1
            return
        lines = [] if answer.status_code != 200 else _numbers(answer.text)
        if lines == list(range(count)):
            self.served += 1
        elif answer.status_code == 503:
            self.refused += 1
        else:
            self.wrong.append((answer.status_code, count, answer.text[:200]))


def _numbers(text: str) -> list[int]:
    decoder, at, found = json.JSONDecoder(), 0, []
    while at < len(text):
        value, at = decoder.raw_decode(text, at)
        found.append(value["number"])
        at += len(text[at:]) - len(text[at:].lstrip())
    return found


@pytest.mark.timeout(90)
@pytest.mark.parametrize("channel", ["shm", "sockets"])
def test_kills_under_mixed_load_cost_no_one_else_his_answer(
    channel: str, wait_until: WaitUntil
) -> None:
    environment = {"TEST_CHANNEL": channel}
    with serving(
        f"{SERVERS}:echoes", arguments=["--fronts", "1"], environment=environment
    ) as server:
        warm = Client(server.url, 99, threading.Event())
        for _ in range(3):
            with httpx.Client(base_url=server.url) as client:
                warm.ask_both(client)
        assert warm.wrong == []
        before = held(server.url)
        stop = threading.Event()
        clients = [Client(server.url, number, stop) for number in range(6)]
        for one in clients:
            one.start()
        chance = random.Random(SEED)
        for kill in range(KILLS):
            served = sum(one.served for one in clients)
            wait_until(lambda s=served: sum(one.served for one in clients) >= s + 30, timeout_s=20)
            victims = [pid for pid in living(descendants(server.pid)) if pid != before["front"]]
            assert victims, kill
            os.kill(chance.choice(victims), signal.SIGKILL)
        stop.set()
        for one in clients:
            one.join(30)
            assert not one.is_alive(), "a request was never answered"
        assert [one.wrong for one in clients] == [[]] * len(clients)
        assert sum(one.served for one in clients) > 30 * (KILLS - 1)
        wait_for_nothing_held(server.url, before, wait_until)
        assert server.stop() == 0


@contextlib.contextmanager
def connected(url: str) -> Iterator[socket.socket]:
    host, _, port = url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        yield connection


def vanish(connection: socket.socket) -> None:
    """Reset the connection instead of closing it in order."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


@pytest.mark.parametrize("way", ["closed", "reset"])
def test_clients_may_vanish_anywhere_in_a_request_or_its_answer(
    way: str, wait_until: WaitUntil
) -> None:
    body = json.dumps({"data": "x" * 300_000, "sleep_s": 0.01}).encode()
    head = b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
    request = head + b"Content-Length: %d\r\n\r\n" % len(body) + body
    chance = random.Random(SEED)
    with serving(f"{SERVERS}:echoes", arguments=["--fronts", "1"]) as server:
        assert httpx.post(server.url + "/predict", content=body).status_code == 200
        before = held(server.url)
        sent = [0, 1, len(head), len(request) - len(body), len(request) - 1]
        sent += [chance.randrange(len(request)) for _ in range(15)]
        read = [0, 1, 20, 200, 70_000, 299_000] + [chance.randrange(300_000) for _ in range(10)]
        for size in sent:
            with connected(server.url) as connection:
                connection.sendall(request[:size])
                if way == "reset":
                    vanish(connection)
        for size in read:
            with connected(server.url) as connection:
                connection.sendall(request)
                got = 0
                while got < size:
                    got += len(connection.recv(min(65536, size - got)))
                if way == "reset":
                    vanish(connection)
        wait_for_nothing_held(server.url, before, wait_until)
        assert httpx.post(server.url + "/predict", json={"a": 1}).json() == {"a": 1}


def test_a_full_arena_refuses_at_once_and_recovers(tmp_path: Path, wait_until: WaitUntil) -> None:
    large = {"data": "x" * (3_000_000), "measure": True}  # three extents of eight
    with serving(f"{SERVERS}:small_arena") as server:
        url = server.url + "/predict"
        before = held(server.url)
        begun = tmp_path / "begun"
        holds = [Asking(url, {"sleep_s": 1.5, "begun": str(begun)})]
        wait_until(begun.exists)
        holds += [Asking(url, large) for _ in range(2)]
        wait_until(lambda: held(server.url)["bytes"] >= 6_000_000)
        refused = httpx.post(url, json=large, timeout=10)
        first = holds[0].answer  # it still runs: the refusal did not wait for it
        small = Asking(url, {"data": "small"})
        statuses = [one.result().status_code for one in holds]
        assert small.result().json() == {"data": "small"}
        wait_for_nothing_held(server.url, before | {"descriptors": 1000}, wait_until)
        assert httpx.post(url, json=large, timeout=10).status_code == 200
    assert refused.status_code == 503
    assert int(refused.headers["Retry-After"]) >= 1
    assert first is None
    assert statuses == [200, 200, 200]
