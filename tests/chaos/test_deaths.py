# SPDX-License-Identifier: Apache-2.0
"""Real kills: what clients see, and what is left."""

from __future__ import annotations

import itertools
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from tests.integration.processes import SERVERS, Asking, descendants, living, named_files

from cubbyhole.testing.serving import serving

CHANNELS = ["shm", "sockets"]
WaitUntil = Callable[..., object]


@pytest.mark.parametrize("channel", CHANNELS)
def test_a_killed_workers_client_gets_503_and_the_next_request_is_served(
    channel: str,
    tmp_path: Path,
    wait_until: WaitUntil,
    measured: Callable[[str, float], None],
) -> None:
    with serving(f"{SERVERS}:one", environment={"TEST_CHANNEL": channel}) as server:
        pid = httpx.post(server.url + "/predict", json={"input": 1}).json()["pid"]
        begun = tmp_path / "begun"
        asked = Asking(server.url + "/predict", {"input": 1, "sleep_s": 60, "begun": str(begun)})
        wait_until(begun.exists)
        killed_s = time.perf_counter()
        os.kill(pid, signal.SIGKILL)
        answer = asked.result()
        after = httpx.post(server.url + "/predict", json={"input": 3}, timeout=10)
        output = server.output()
    took_ms = (asked.ended_s - killed_s) * 1000
    measured(f"kill of a worker to its client's 503, {channel}", took_ms)
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) >= 1
    assert after.json()["output"] == 9
    assert after.json()["pid"] != pid
    # Over sockets the front may see the end of the connection first; then nothing is left to fail here.
    assert f"worker replaced: worker=0 pid={pid} reason=signal:SIGKILL failed_entries=" in output


@pytest.mark.parametrize("channel", CHANNELS)
def test_other_workers_do_not_notice_a_death(
    channel: str, tmp_path: Path, wait_until: WaitUntil
) -> None:
    with serving(f"{SERVERS}:two_workers", environment={"TEST_CHANNEL": channel}) as server:
        begun = tmp_path / "begun"
        slow = Asking(server.url + "/predict", {"input": 2, "sleep_s": 1.0, "begun": str(begun)})
        wait_until(begun.exists)
        died = httpx.post(server.url + "/predict", json={"input": 1, "die": True})
        assert died.status_code == 503
        assert slow.result().json()["output"] == 4


@pytest.mark.parametrize("channel", CHANNELS)
def test_a_killed_front_is_replaced(channel: str, wait_until: WaitUntil) -> None:
    environment = {"TEST_CHANNEL": channel}
    with serving(
        f"{SERVERS}:two_workers", arguments=["--fronts", "2"], environment=environment
    ) as server:
        pids = {httpx.get(server.url + "/front").json() for _ in range(40)}
        victim = pids.pop()
        os.kill(victim, signal.SIGKILL)

        def served_by_others() -> bool:
            asked = [httpx.get(server.url + "/front", timeout=5) for _ in range(20)]
            return victim not in {answer.json() for answer in asked}

        wait_until(served_by_others)
        for number in range(20):
            answer = httpx.post(server.url + "/predict", json={"input": number}, timeout=5)
            assert answer.json()["output"] == number**2
        assert f"pid={victim} reason=signal:SIGKILL" in server.output()


def test_sigterm_under_load_answers_every_accepted_request(
    tmp_path: Path, wait_until: WaitUntil, measured: Callable[[str, float], None]
) -> None:
    """More requests than workers wait in the queue when the signal comes; all were accepted, so all are answered."""
    with serving(f"{SERVERS}:two_workers", arguments=["--fronts", "2"]) as server:
        asked = [Asking(server.url + "/predict", {"input": n, "sleep_s": 0.15}) for n in range(20)]
        first = tmp_path / "first"
        asked.append(Asking(server.url + "/predict", {"input": 0, "begun": str(first)}))
        wait_until(first.exists)  # the last one runs: those before it were claimed or answered
        asked += [Asking(server.url + "/predict", {"input": n, "sleep_s": 0.3}) for n in range(6)]
        second = tmp_path / "second"
        asked.append(
            Asking(server.url + "/predict", {"input": 0, "sleep_s": 0.3, "begun": str(second)})
        )
        wait_until(second.exists)
        children = descendants(server.pid)
        started_s = time.perf_counter()
        assert server.stop() == 0, server.output()
        took_ms = (time.perf_counter() - started_s) * 1000
        statuses = [one.result().status_code for one in asked]
    measured(f"SIGTERM to exit with {len(asked)} requests accepted", took_ms)
    assert statuses == [200] * len(asked)
    assert living(children) == []


def test_nobody_is_let_in_while_a_front_still_drains(tmp_path: Path, wait_until: WaitUntil) -> None:
    """A front's copy of its sibling's socket would take connections that nobody accepts."""
    with serving(f"{SERVERS}:two_workers", arguments=["--fronts", "2"]) as server:
        begun = tmp_path / "begun"
        asked = Asking(server.url + "/predict", {"input": 2, "sleep_s": 6, "begun": str(begun)})
        wait_until(begun.exists)
        os.kill(server.pid, signal.SIGTERM)
        host, _, port = server.url.removeprefix("http://").partition(":")

        def refused() -> bool:
            try:
                socket.create_connection((host, int(port)), timeout=5).close()
            except ConnectionRefusedError:
                return True
            return False

        wait_until(lambda: all(refused() for _ in range(20)), timeout_s=5.0)
        assert asked.answer is None
        assert asked.result().json()["output"] == 4


def test_under_a_stream_of_new_connections_a_drain_loses_none_that_was_accepted(
    tmp_path: Path, wait_until: WaitUntil
) -> None:
    """Refused and reset connections are fine (nobody accepted them); a 5xx or a cut answer is not, nor a request that ran for nobody."""
    with serving(f"{SERVERS}:two_workers", arguments=["--fronts", "2"]) as server:
        outcomes: list[object] = []
        lost: list[Path] = []
        under_way: dict[int, Path] = {}
        stop = threading.Event()

        def ask_once(begun: Path) -> object:
            body = {"input": 2, "sleep_s": 0.2, "begun": str(begun)}
            try:
                answer = httpx.post(server.url + "/predict", json=body, timeout=10)
            except (httpx.ConnectError, httpx.ReadError, httpx.RemoteProtocolError) as error:
                lost.append(begun)
                stop.wait(0.01)
                return type(error)
            return answer.status_code, answer.json()["output"]

        def ask(client: int) -> None:
            for number in itertools.count():
                if stop.is_set():
                    return
                under_way[client] = tmp_path / f"{client}-{number}"
                outcomes.append(ask_once(under_way[client]))
                del under_way[client]

        threads = [threading.Thread(target=ask, args=(client,)) for client in range(4)]
        for thread in threads:
            thread.start()
        wait_until(lambda: len(outcomes) >= 20, timeout_s=30)
        wait_until(lambda: any(begun.exists() for begun in tuple(under_way.values())))
        code = server.stop()
        stop.set()
        for thread in threads:
            thread.join()
    answered = [outcome for outcome in outcomes if isinstance(outcome, tuple)]
    assert code == 0
    assert set(answered) == {(200, 4)}
    assert len(answered) >= 20
    assert [begun for begun in lost if begun.exists()] == []


@pytest.mark.parametrize("channel", CHANNELS)
def test_children_of_a_killed_supervisor_end_and_leave_nothing(
    channel: str, tmp_path: Path, wait_until: WaitUntil, measured: Callable[[str, float], None]
) -> None:
    environment = {"TEST_CHANNEL": channel, "TMPDIR": str(tmp_path)}
    with serving(
        f"{SERVERS}:two_workers", arguments=["--fronts", "2"], environment=environment
    ) as server:
        busy = Asking(server.url + "/predict", {"input": 1, "sleep_s": 30})
        children = descendants(server.pid)
        assert len(children) == 4
        files = named_files([server.pid, *children])
        killed_s = time.perf_counter()
        assert server.stop(signal.SIGKILL) == -signal.SIGKILL
        wait_until(lambda: not living(children))
        took_ms = (time.perf_counter() - killed_s) * 1000
        busy.join()
    measured(f"kill of the supervisor to the end of its last child, {channel}", took_ms)
    assert [file for file in files if file.exists()] == []
    assert list(tmp_path.iterdir()) == []


def test_killing_everything_leaves_nothing(tmp_path: Path, wait_until: WaitUntil) -> None:
    with serving(f"{SERVERS}:two_workers", environment={"TMPDIR": str(tmp_path)}) as server:
        httpx.post(server.url + "/predict", json={"input": 1})
        everything = [server.pid, *descendants(server.pid)]
        files = named_files(everything)
        for pid in everything:
            os.kill(pid, signal.SIGKILL)
        server.stop(signal.SIGKILL)
        wait_until(lambda: not living(everything))
    assert [file for file in files if file.exists()] == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("channel", CHANNELS)
def test_a_predict_that_hangs_gets_504_and_its_worker_is_replaced(
    channel: str, wait_until: WaitUntil
) -> None:
    with serving(f"{SERVERS}:impatient", environment={"TEST_CHANNEL": channel}) as server:
        pid = httpx.post(server.url + "/predict", json={"input": 1}).json()["pid"]
        answer = httpx.post(server.url + "/predict", json={"input": 1, "sleep_s": 600}, timeout=15)
        assert answer.status_code == 504

        def answered() -> httpx.Response | None:
            again = httpx.post(server.url + "/predict", json={"input": 3}, timeout=15)
            return again if again.status_code == 200 else None

        again = wait_until(answered)
        assert isinstance(again, httpx.Response)
        assert again.json()["pid"] != pid
        assert f"worker stalled: worker=0 pid={pid} entry=" in server.output()


def test_without_restart_workers_a_death_ends_the_server_in_order() -> None:
    with serving(f"{SERVERS}:strict") as server:
        children = descendants(server.pid)
        answer = httpx.post(server.url + "/predict", json={"input": 1, "die": True})
        assert answer.status_code == 503
        assert server.process is not None
        assert server.process.wait(15) == 1
        assert "WorkerDied" in server.output() or "restart_workers is off" in server.output()
    assert living(children) == []


@pytest.mark.timeout(60)  # it tries six times, more slowly each time
def test_a_worker_that_cannot_start_again_ends_the_server(tmp_path: Path) -> None:
    with serving(
        f"{SERVERS}:breaks_later", environment={"TEST_MARK": str(tmp_path / "mark")}
    ) as server:
        httpx.post(server.url + "/predict", json={}, timeout=5)
        assert server.process is not None
        assert server.process.wait(50) == 1
        assert "before it was ready" in server.output()


def test_sigterm_as_pid_1_drains(tmp_path: Path) -> None:
    """In a container the server is PID 1, for which the kernel drops signals without a handler."""
    command = [
        "unshare",
        "--fork",
        "--pid",
        "--mount-proc",
        sys.executable,
        "-m",
        "cubbyhole",
        "serve",
    ]
    if subprocess.run(
        ["unshare", "--fork", "--pid", "--mount-proc", "true"], check=False
    ).returncode:
        pytest.skip("no right to make a PID namespace here")
    from cubbyhole.testing.serving import running

    with running([*command, f"{SERVERS}:one", "--port", "0"]) as server:
        assert httpx.post(server.url + "/predict", json={"input": 3}).json()["output"] == 9
        (first,) = [pid for pid in descendants(server.pid) if pid_in_namespace(pid) == 1]
        os.kill(first, signal.SIGTERM)
        assert server.process is not None
        assert server.process.wait(10) == 0
        assert "draining" in server.output()


def pid_in_namespace(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("NSpid:"):
            return int(line.split()[-1])
    return 0
