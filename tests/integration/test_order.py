# SPDX-License-Identifier: Apache-2.0
"""Order, shares and overload in a real server: processes, the shared segment, HTTP."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from tests.integration.processes import Asking

from cubbyhole.testing.serving import serving

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cubbyhole.testing.serving import Served

SERVERS = Path(__file__).with_name("order_apis.py")
WaitUntil = Callable[..., Any]
MIB = 1 << 20


class Held:
    """A server whose worker is held; what is asked meanwhile waits in the order in which it was asked."""

    def __init__(self, served: Served, until: Path, wait_until: WaitUntil) -> None:
        self.url = served.url
        self._until = until
        self._wait_until = wait_until
        self._pool = ThreadPoolExecutor(32)
        # One client for all: to make one costs as much as a hundred requests.
        self.client = httpx.Client(base_url=served.url, timeout=60)
        self.asked = 0

    def ask(self, headers: dict[str, str], body: Any = None) -> Future[httpx.Response]:
        """Put one more into the queue."""
        answer = self._pool.submit(self.client.post, "/predict", json=body or {}, headers=headers)
        self.asked += 1
        self._wait_until(
            lambda: self.client.get("/counts").json()["ready"] == self.asked, timeout_s=20.0
        )
        return answer

    def go(self) -> None:
        """Let the worker go on."""
        self._until.touch()


def counts(url: str) -> dict[str, int]:
    answer: dict[str, int] = httpx.get(url + "/counts", timeout=10).json()
    return answer


@contextlib.contextmanager
def held(name: str, tmp_path: Path, wait_until: WaitUntil, **options: Any) -> Iterator[Held]:
    with serving(f"{SERVERS}:{name}", **options) as server:
        begun, until = tmp_path / "begun", tmp_path / "until"
        body = {"begun": str(begun), "until": str(until)}
        first = Asking(server.url + "/predict", body, timeout_s=45.0)
        wait_until(begun.exists)
        queue = Held(server, until, wait_until)
        with queue.client:
            yield queue
            assert first.result().status_code == 200


def turns(answers: dict[str, Future[httpx.Response]]) -> list[str]:
    """The names in the order in which they were run."""
    ran = {name: answer.result().json()["turn"] for name, answer in answers.items()}
    return sorted(ran, key=ran.__getitem__)


CLASSES = {  # seconds apart, so that a slow machine changes nothing
    "later": {"X-Priority": "9"},
    "better": {"X-Priority": "7"},
    "hurried": {"X-Priority": "9", "X-Request-Timeout": "5"},
    "soon": {"X-Priority": "2"},
    "now": {"X-Priority": "0"},
}


@pytest.mark.parametrize("channel", ["shm", "sockets"])
def test_requests_run_by_class_deadline_and_arrival(
    channel: str, tmp_path: Path, wait_until: WaitUntil
) -> None:
    environment = {"TEST_CHANNEL": channel}
    with held("ranked", tmp_path, wait_until, environment=environment) as queue:
        answers = {name: queue.ask(headers) for name, headers in CLASSES.items()}
        queue.go()
        order = turns(answers)
    assert order == ["now", "soon", "hurried", "better", "later"]


def test_batches_are_filled_in_rank_order(tmp_path: Path, wait_until: WaitUntil) -> None:
    with held("batches", tmp_path, wait_until) as queue:
        low = [queue.ask({"X-Priority": "9"}) for _ in range(3)]
        high = [queue.ask({"X-Priority": "0"}) for _ in range(3)]
        queue.go()
        low_batches = {answer.result().json()["turn"] for answer in low}
        high_batches = {answer.result().json()["turn"] for answer in high}
        sizes = [answer.result().json()["batch"] for answer in low + high]
    assert sizes == [3] * 6
    assert max(high_batches) < min(low_batches)


def test_what_expires_in_the_queue_is_answered_504_and_never_run(
    tmp_path: Path, wait_until: WaitUntil
) -> None:
    with held("ranked", tmp_path, wait_until) as queue:
        mark = tmp_path / "it ran"
        expired = queue.ask({"X-Request-Timeout": "0.3"}, {"begun": str(mark)})
        assert expired.result().status_code == 504
        queue.asked -= 1
        after = queue.ask({})
        queue.go()
        assert after.result().json()["turn"] == 2  # the first after the one that held the worker
    assert not mark.exists()


def test_a_flood_of_one_key_does_not_delay_the_first_request_of_another(
    tmp_path: Path, wait_until: WaitUntil
) -> None:
    arguments = ["--fronts", "1"]  # each front shares out its own queue
    with held("shared", tmp_path, wait_until, arguments=arguments) as queue:
        answers = {f"flood {n}": queue.ask({"X-API-Key": "anna"}) for n in range(8)}
        answers |= {f"other {n}": queue.ask({"X-API-Key": "bert"}) for n in range(3)}
        queue.go()
        order = turns(answers)
    assert [name.split()[0] for name in order[:6]] == ["flood", "other"] * 3
    assert order[6:] == [f"flood {n}" for n in range(3, 8)]


def test_accepted_requests_are_answered_though_bodies_fill_the_arena(
    tmp_path: Path, wait_until: WaitUntil
) -> None:
    """Their answers need room while bodies that came after them still hold all that bodies may have."""
    size = 2 * MIB - 4096
    with held("gives", tmp_path, wait_until) as queue:
        first = [queue.ask({}, {"size": size}) for _ in range(3)]
        pool = ThreadPoolExecutor(40)
        body = {"data": "x" * 900_000}  # one extent each, so that no odd room is left
        bodies = [pool.submit(queue.client.post, "/predict", json=body) for _ in range(40)]
        wait_until(lambda: any(answer.done() for answer in bodies))  # one was refused: it is full
        queue.go()
        answers = [answer.result() for answer in first]
        statuses = [answer.result().status_code for answer in bodies]
    assert [answer.status_code for answer in answers] == [200] * 3
    assert {len(answer.content) for answer in answers} == {size}
    assert set(statuses) == {200, 503}


def test_an_answer_that_nobody_reads_gives_its_room_back(wait_until: WaitUntil) -> None:
    """Clients that ask for 20 MiB and read nothing hold the arena until the send timeout, and not longer."""
    with serving(f"{SERVERS}:gives", arguments=["--fronts", "1"]) as server:
        host, _, port = server.url.removeprefix("http://").partition(":")
        text = b'{"size": 20000000}'
        head = b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
        with socket.socket() as mute:
            mute.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            mute.connect((host, int(port)))
            mute.sendall(head + b"Content-Length: %d\r\n\r\n" % len(text) + text)
            wait_until(lambda: counts(server.url)["bytes"] > 19_000_000)
            wait_until(lambda: counts(server.url)["bytes"] < MIB, timeout_s=15.0)
            with pytest.raises(ConnectionResetError):
                read_all(mute)
        again = httpx.post(server.url + "/predict", json={"size": 20_000_000}, timeout=20)
    assert len(again.content) == 20_000_000


def read_all(connection: socket.socket) -> None:
    while connection.recv(MIB):
        pass


def test_probes_of_a_real_server_say_what_is(tmp_path: Path, wait_until: WaitUntil) -> None:
    with serving(f"{SERVERS}:ranked", arguments=["--fronts", "1"]) as server:
        begun, until = tmp_path / "begun", tmp_path / "until"
        first = Asking(server.url + "/predict", {"begun": str(begun), "until": str(until)})
        wait_until(begun.exists)
        with httpx.Client(base_url=server.url) as client:
            paths = ("/health/live", "/health/ready", "/health/startup")
            assert [client.get(path).text for path in paths] == ["live", "ready", "started"]
        until.touch()
        assert first.result().status_code == 200
