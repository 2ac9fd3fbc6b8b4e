# SPDX-License-Identifier: Apache-2.0
"""The whole server over real processes and HTTP."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import httpx
import pytest
from tests.conftest import poll_until
from tests.integration import servers
from tests.integration.processes import SERVERS, Asking, descendants, living

from cubbyhole.testing.serving import Served, running, serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

CHANNELS = ["shm", "sockets", "pipes", "manager", "zmq"]


@pytest.fixture(params=CHANNELS)
def channel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("TEST_CHANNEL", request.param)
    monkeypatch.setattr(servers, "CHANNEL", request.param)
    return str(request.param)


@pytest.mark.usefixtures("channel")
def test_one_request() -> None:
    with serving(servers.one()) as server:
        answer = httpx.post(server.url + "/predict", json={"input": 4})
    assert answer.status_code == 200
    assert answer.json()["output"] == 16
    assert answer.json()["id"] == "0"
    assert answer.json()["pid"] != os.getpid()


def test_the_channel_that_was_asked_for_carries_the_requests(channel: str) -> None:
    with serving(f"{SERVERS}:one") as server:
        httpx.post(server.url + "/predict", json={"input": 4})
        info = httpx.get(server.url + "/info").json()
    assert info["server"].get("channel") == channel


@pytest.fixture(scope="module", params=CHANNELS)
def two(request: pytest.FixtureRequest) -> Iterator[Served]:
    environment = {"TEST_CHANNEL": request.param}
    with serving(f"{SERVERS}:two", arguments=["--fronts", "2"], environment=environment) as served:
        yield served


def test_two_apis_answer_over_two_fronts_and_four_workers(two: Served) -> None:
    asked = [Asking(two.url + "/square", {"input": n, "sleep_s": 0.05}) for n in range(12)]
    asked += [Asking(two.url + "/negate", {"input": n}) for n in range(12)]
    answers = [one.result().json() for one in asked]
    assert [answer["output"] for answer in answers] == [n * n for n in range(12)] + [
        -n for n in range(12)
    ]
    assert len({answer["pid"] for answer in answers[:12]}) == 2
    assert {answer["id"] for answer in answers[:12]} == {"0", "1"}


def test_both_fronts_take_connections(two: Served) -> None:
    pids = {httpx.get(two.url + "/front").json() for _ in range(40)}  # each on a new connection
    assert len(pids) == 2
    assert pids <= set(descendants(two.pid))


def test_the_server_says_where_it_listens_and_when_it_has_started(two: Served) -> None:
    output = two.output()
    assert f"Uvicorn running on {two.url} (Press CTRL+C to quit)" in output
    assert f"Swagger UI is available at {two.url}/docs" in output
    poll_until(lambda: two.output().count("Application startup complete.") == 2)


@pytest.mark.usefixtures("channel")
def test_single_batch_and_stream_beside_each_other() -> None:
    with serving(servers.all_kinds()) as server:
        batch = [Asking(server.url + "/batch", {"input": n}) for n in range(4)]
        lines = httpx.post(server.url + "/stream", json={"input": 50}).text.splitlines()
        single = httpx.post(server.url + "/predict", json={"input": 5}).json()
        batched = [one.result().json() for one in batch]
    assert [json.loads(line)["number"] for line in lines] == list(range(50))
    assert single["output"] == 25
    assert [answer["output"] for answer in batched] == [0, 1, 4, 9]
    assert max(answer["size"] for answer in batched) > 1


def test_a_users_script_runs_as_it_is() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, str(SERVERS)]
    with running(command, environment={"TEST_PORT": str(port)}) as server:
        assert httpx.post(server.url + "/predict", json={"input": 3}).json()["output"] == 9
        assert server.stop(signal.SIGINT) == 0


def test_a_logger_gets_what_workers_log(tmp_path: Path, wait_until: Callable[..., object]) -> None:
    log = tmp_path / "log"
    log.touch()
    with serving(f"{SERVERS}:logging", environment={"TEST_LOG": str(log)}) as server:
        for number in range(3):
            httpx.post(server.url + "/predict", json={"input": number})
        wait_until(lambda: log.read_text().count("\n") == 3)
        children = descendants(server.pid)
        assert server.stop() == 0
    assert log.read_text() == "input=0\ninput=1\ninput=2\n"
    wait_until(
        lambda: not living(children)
    )  # multiprocessing's resource tracker ends just after us


def test_the_shutdown_endpoint_drains_and_ends(wait_until: Callable[..., object]) -> None:
    environment = {"LIT_SHUTDOWN_API_KEY": "secret"}
    with serving(f"{SERVERS}:can_be_shut_down", environment=environment) as server:
        answer = httpx.post(server.url + "/shutdown", headers={"Authorization": "Bearer secret"})
        assert (answer.status_code, answer.text) == (200, "Server is initiating graceful shutdown.")
        assert server.process is not None
        assert server.process.wait(10) == 0


def test_ctrl_c_in_a_terminal_finishes_what_was_accepted(
    tmp_path: Path, wait_until: Callable[..., object]
) -> None:
    """A terminal sends it to the whole process group; only the supervisor may act on it."""
    begun = tmp_path / "begun"
    with serving(f"{SERVERS}:one") as server:
        asked = Asking(server.url + "/predict", {"input": 3, "sleep_s": 0.5, "begun": str(begun)})
        wait_until(begun.exists)
        os.killpg(server.pid, signal.SIGINT)
        assert server.process is not None
        assert server.process.wait(10) == 0
        assert asked.result().json()["output"] == 9
        assert "Traceback" not in server.output()
        assert "cause=SIGINT" in server.output()


def test_a_server_ends_with_the_process_that_asked_for_it(
    wait_until: Callable[..., object],
) -> None:
    """A test run that is killed by its watchdog must not leave servers behind."""
    code = (
        "import os, sys; from cubbyhole.testing.serving import serving\n"
        f"with serving({str(SERVERS) + ':one'!r}) as server:\n"
        "    print(server.pid, flush=True)\n"
        "    sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as tester:
        assert tester.stdout is not None
        pid = int(tester.stdout.readline())
        everything = [pid, *descendants(pid)]
        assert len(everything) == 3
        tester.kill()
    wait_until(lambda: not living(everything))


def test_reload_serves_the_changed_file(tmp_path: Path, wait_until: Callable[..., object]) -> None:
    file = tmp_path / "reloaded_by_test.py"
    source = "import cubbyhole as ls\nclass Api(ls.LitAPI):\n    def predict(self, x):\n        return 'VALUE'\n"
    file.write_text(source.replace("VALUE", "old"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "cubbyhole",
        "serve",
        str(file),
        "--port",
        str(port),
        "--reload",
    ]
    with running(command) as server:
        assert httpx.post(server.url + "/predict", json={}).json() == "old"
        file.write_text(source.replace("VALUE", "newer"))

        def answers_newer() -> bool:
            try:
                return bool(httpx.post(server.url + "/predict", json={}).json() == "newer")
            except httpx.HTTPError:
                return False

        wait_until(answers_newer)
        assert server.stop() == 0


def serve(target: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "cubbyhole", "serve", target, "--port", "0"],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_setup_that_raises_ends_the_server_with_litserves_error() -> None:
    process = serve(f"{SERVERS}:broken")
    output, _ = process.communicate(timeout=15)
    assert process.returncode == 1
    assert "no weights for cpu" in output
    assert "RuntimeError: One or more workers failed to start. Shutting down LitServe" in output
    assert "Uvicorn running" not in output


@pytest.mark.timeout(60)  # it tries six times, more slowly each time
def test_an_api_whose_workers_never_start_ends_the_server() -> None:
    process = serve(f"{SERVERS}:half_broken")
    output, _ = process.communicate(timeout=50)
    assert process.returncode == 1
    assert "ended 6 times in a row before it was ready" in output


def test_setup_that_hangs_can_be_ended(wait_until: Callable[..., object]) -> None:
    process = serve(f"{SERVERS}:hanging")
    children: list[int] = wait_until(lambda: descendants(process.pid))  # type: ignore[assignment]
    process.terminate()
    process.communicate(timeout=15)
    assert process.returncode == 0
    assert living(children) == []


def test_a_taken_port_is_told_in_one_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        command = [
            sys.executable,
            "-m",
            "cubbyhole",
            "serve",
            f"{SERVERS}:one",
            "--port",
            str(port),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=15, check=False)
    assert done.returncode == 1
    assert f"Port {port} on 127.0.0.1 is taken by another process" in done.stderr
    assert "Traceback" not in done.stderr
