# SPDX-License-Identifier: Apache-2.0
"""`cubbyhole cancel`, `rerank`, `drain`, `roll` on real servers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from tests.conftest import poll_until

from cubbyhole.core.errors import OperatorUnheard
from cubbyhole.core.operations import Cancel, Rerank, Roll, ask
from cubbyhole.seen.attached import attach
from cubbyhole.testing.serving import Served, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cubbyhole.core.statistics import EntrySnapshot
    from cubbyhole.seen.attached import AttachedServer

SERVERS = Path(__file__).with_name("servers.py")
OPERATED = Path(__file__).with_name("operated.py")


def command(server: Served, *words: str) -> tuple[int, str]:
    """Run a command of the command line; its exit code and what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "cubbyhole", *words, "--server", str(server.pid)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=40,
        check=False,
    )
    return done.returncode, done.stdout


class Clients:
    """Requests under way, each in a thread, and their answers."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._threads: list[threading.Thread] = []
        self.answers: dict[str, httpx.Response] = {}
        self.order: list[str] = []

    def ask(self, name: str, **body: Any) -> None:
        def run() -> None:
            answer = httpx.post(f"{self._url}/predict", json={"input": 3, **body}, timeout=40)
            self.answers[name] = answer
            self.order.append(name)

        self._threads.append(threading.Thread(target=run))
        self._threads[-1].start()

    def join(self) -> None:
        for thread in self._threads:
            thread.join()


@contextmanager
def clients_of(server: Served) -> Iterator[Clients]:
    clients = Clients(server.url)
    try:
        yield clients
    finally:
        clients.join()


def newest(seen: AttachedServer, state: str, known: set[int]) -> EntrySnapshot:
    """Wait for an entry in a state that was not there before."""

    def look() -> EntrySnapshot | None:
        return next((e for e in seen.entries() if e.state == state and e.id not in known), None)

    found = poll_until(look)
    assert found is not None
    known.add(found.id)
    return found


def test_a_waiting_request_is_cancelled_and_a_running_one_sees_it(tmp_path: Path) -> None:
    """Both clients are answered at once, while the worker is still at it; the failure is kept with its code."""
    begun, known = tmp_path / "begun", set[int]()
    never = tmp_path / "never"
    with serving(f"{OPERATED}:watching") as server, attach(server.pid) as seen:
        with clients_of(server) as clients:
            clients.ask("runs", begun=str(begun), until_cancelled=str(tmp_path / "saw"))
            runs = newest(seen, "CLAIMED", known)
            clients.ask("waits", begun=str(never))
            waits = newest(seen, "READY", known)
            code, text = command(server, "cancel", str(waits.id))
            assert (code, text) == (
                0,
                f"Request {waits.id} waited and was taken back; its client has 409.\n",
            )
            poll_until(lambda: "waits" in clients.answers)
            assert clients.answers["waits"].status_code == 409
            assert "operator" in clients.answers["waits"].json()["detail"]
            assert "retry-after" not in clients.answers["waits"].headers
            done = ask(seen.description.admin, Cancel(runs.id))
            assert (done.ok, done.data["was_running"]) == (True, True)
            poll_until(lambda: "runs" in clients.answers)
            assert clients.answers["runs"].status_code == 409
        assert poll_until((tmp_path / "saw").exists)  # user code saw it, and stopped
        assert not never.exists()
        codes = {record.id: record.code for record in seen.failures()}
        assert codes == dict.fromkeys((runs.id, waits.id), "cancelled_by_operator")

        def past() -> dict[int, tuple[int, str]]:
            return {one.id: (one.status, one.failure) for one in seen.history()}

        # In the history once its slot is free, which is after user code that saw the cancelling has returned.
        poll_until(lambda: {waits.id, runs.id} <= past().keys())
        assert past()[waits.id] == past()[runs.id] == (409, "cancelled_by_operator")
        code, text = command(server, "cancel", str(waits.id))
        assert code == 1
        assert text.startswith(f"cubbyhole: No request {waits.id} is under way")
        after = httpx.post(f"{server.url}/predict", json={"input": 4}, timeout=15)
        assert after.json()["output"] == 16


def test_an_operator_changes_the_order_of_what_waits(tmp_path: Path) -> None:
    known: set[int] = set()
    with serving(f"{OPERATED}:watching") as server, attach(server.pid) as seen:
        with clients_of(server) as clients:
            release = tmp_path / "release"
            clients.ask("first", until=str(release))
            newest(seen, "CLAIMED", known)
            ids = {}
            for name in ("a", "b", "c"):
                clients.ask(name)
                ids[name] = newest(seen, "READY", known).id
            code, text = command(server, "rerank", str(ids["c"]), "0")
            assert (code, text) == (0, f"Request {ids['c']} has priority 0 now.\n")
            assert ask(seen.description.admin, Rerank(ids["a"], 9)).ok
            assert not ask(seen.description.admin, Rerank(ids["a"], 10)).ok
            release.touch()
        numbers = {name: clients.answers[name].json()["number"] for name in ("c", "b", "a")}
        assert list(numbers.values()) == sorted(numbers.values())


def test_draining_shows_its_progress_and_loses_nothing(tmp_path: Path) -> None:
    known: set[int] = set()
    with serving(f"{OPERATED}:watching") as server, attach(server.pid) as seen:
        release = tmp_path / "release"
        with clients_of(server) as clients:
            clients.ask("accepted", until=str(release))
            newest(seen, "CLAIMED", known)
            out: list[tuple[int, str]] = []
            drainer = threading.Thread(target=lambda: out.append(command(server, "drain")))
            drainer.start()
            poll_until(lambda: "draining: in_flight=1" in server.output())
            again = command(server, "drain", "--no-wait")  # must not hurry the first one
            release.touch()
        drainer.join()
        assert again == (0, "Draining already.\n")
        assert clients.answers["accepted"].status_code == 200
        assert server.process is not None
        assert server.process.wait(20) == 0
        code, text = out[0]
        assert code == 0
        assert "Draining: 1 requests under way have 30 s to finish.\n" in text
        assert text.endswith(f"Server {server.pid} has ended.\n")
        with pytest.raises(OperatorUnheard):
            ask(seen.description.admin, Roll())


def test_a_stopped_supervisor_is_said_not_to_answer() -> None:
    with serving(f"{SERVERS}:Square") as server, attach(server.pid) as seen:
        os.kill(server.pid, signal.SIGSTOP)
        try:
            with pytest.raises(OperatorUnheard, match="did not answer within"):
                ask(seen.description.admin, Roll(), timeout_s=0.3)
        finally:
            os.kill(server.pid, signal.SIGCONT)


def test_over_a_channel_that_cannot_it_is_said() -> None:
    environment = {"TEST_CHANNEL": "sockets"}
    with serving(f"{SERVERS}:one", environment=environment) as server:
        code, text = command(server, "cancel", "7")
        assert code == 1
        assert 'Use channel="shm"' in text
        assert command(server, "roll")[0] == 0


def test_without_a_server_it_is_one_line_and_exit_code_1() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cubbyhole", "cancel", "7", "--server", "1"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("cubbyhole: No server of yours has pid 1")


def test_kill_9_leaves_nothing_of_the_socket() -> None:
    """The kernel frees an abstract name with its last descriptor; fronts and workers hold none."""
    with serving(f"{SERVERS}:one") as server, attach(server.pid) as seen:
        address = seen.description.admin
        assert address in Path("/proc/net/unix").read_text()
        server.stop(signal.SIGKILL)
        poll_until(lambda: address not in Path("/proc/net/unix").read_text())
