# SPDX-License-Identifier: Apache-2.0
"""Workers replaced under load, in order: no request fails. And requests that no worker survives."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from tests.integration.processes import SERVERS

from cubbyhole.testing.serving import serving

if TYPE_CHECKING:
    from typing_extensions import Self

CHANNELS = ["shm", "sockets"]
WaitUntil = Callable[..., object]


class Load:
    """Clients that ask one request after another until the block is left; each answer is checked."""

    def __init__(self, url: str, clients: int = 4, sleep_s: float = 0.01) -> None:
        self.wrong: list[Any] = []
        self.pids: set[int] = set()
        self.count = 0
        self._url = url
        self._sleep_s = sleep_s
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(n,)) for n in range(clients)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, number: int) -> None:
        with httpx.Client(timeout=15) as client:
            while not self._stop.is_set():
                number += 10
                body = {"input": number, "sleep_s": self._sleep_s}
                answer = client.post(self._url + "/predict", json=body)
                self.count += 1
                if answer.status_code == 200 and answer.json()["output"] == number**2:
                    self.pids.add(answer.json()["pid"])
                else:
                    self.wrong.append((answer.status_code, answer.text))


@pytest.mark.parametrize("channel", CHANNELS)
def test_a_request_that_kills_every_worker_is_poison(channel: str, wait_until: WaitUntil) -> None:
    with serving(f"{SERVERS}:stubborn", environment={"TEST_CHANNEL": channel}) as server:
        answer = httpx.post(server.url + "/predict", json={"input": 1, "die": True}, timeout=18)
        after = httpx.post(server.url + "/predict", json={"input": 3}, timeout=15)
        output = server.output()
    assert answer.status_code == 500
    assert "not tried again" in answer.json()["detail"]
    assert output.count("worker replaced: ") == 3
    assert after.json()["output"] == 9


@pytest.mark.parametrize("channel", CHANNELS)
def test_sighup_replaces_all_workers_and_fails_no_request(
    channel: str, wait_until: WaitUntil
) -> None:
    environment = {"TEST_CHANNEL": channel}
    with serving(f"{SERVERS}:two_workers", environment=environment) as server:
        with Load(server.url) as load:
            wait_until(lambda: len(load.pids) == 2)
            before = frozenset(load.pids)
            os.kill(server.pid, signal.SIGHUP)
            wait_until(lambda: len(load.pids - before) == 2, timeout_s=15)
            served = load.count
            wait_until(lambda: load.count > served + 20)
        output = server.output()
        assert server.stop() == 0
    assert load.wrong == []
    assert output.count("worker recycled: ") == 2
    assert "worker replaced" not in output


def test_workers_are_recycled_after_so_many_requests(wait_until: WaitUntil) -> None:
    with serving(f"{SERVERS}:recycling") as server:
        with Load(server.url, sleep_s=0.0) as load:
            wait_until(lambda: len(load.pids) >= 5, timeout_s=15)
        output = server.output()
    assert load.wrong == []
    assert output.count("worker recycled: ") >= 3
    assert "worker replaced" not in output


def test_workers_are_recycled_when_they_have_grown(wait_until: WaitUntil) -> None:
    with serving(f"{SERVERS}:growing") as server:
        with Load(server.url, clients=2, sleep_s=0.02) as load:
            wait_until(lambda: len(load.pids) >= 4, timeout_s=18)
        output = server.output()
    assert load.wrong == []
    assert "cause=memory:" in output
    assert "worker replaced" not in output
