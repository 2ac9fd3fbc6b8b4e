# SPDX-License-Identifier: Apache-2.0
"""The inspector as a process: beside a server, and started on its own."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import requests
from tests.conftest import poll_until

from cubbyhole.testing.serving import Served, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

SERVERS = Path(__file__).with_name("servers.py")
SQUARE = f"{SERVERS}:Square"
INSPECTOR_PATHS = ("/api/snapshot", "/api/stream", "/assets/main.js", "/api/requests/1/payload")


def address_of(server: Served) -> str:
    found = poll_until(lambda: re.search(r"inspector on (http://\S+)", server.output()))
    assert found is not None
    url = found[1]
    poll_until(lambda: answers(url))
    return url


def answers(url: str) -> bool:
    try:
        return requests.get(f"{url}/assets/main.js", timeout=5).ok
    except requests.ConnectionError:
        return False


def snapshot(url: str, **headers: str) -> Any:
    return requests.get(f"{url}/api/snapshot", headers=headers, timeout=10).json()


def children_of(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(word) for word in text.split()]


def inspector_of(server: Served, url: str) -> int:
    """The child of the supervisor that is no front and no worker."""
    known = {one["pid"] for one in snapshot(url)["processes"]}
    (pid,) = [child for child in children_of(server.pid) if child not in known]
    return pid


@contextmanager
def inspector(*arguments: str, **environment: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`cubbyhole inspector` in a process of its own, and what it printed first."""
    process = subprocess.Popen(
        [sys.executable, "-m", "cubbyhole", "inspector", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **environment},
    )
    assert process.stdout is not None
    try:
        yield process, process.stdout.readline()
    finally:
        process.terminate()
        process.wait(20)
        process.stdout.close()


def test_a_server_has_no_inspector_unless_asked() -> None:
    with serving(SQUARE) as server:
        assert "inspector" not in server.output()
        assert len(children_of(server.pid)) == 2  # a front and a worker


def test_the_inspector_of_a_server_shows_a_request_that_hangs_and_ends_with_the_server() -> None:
    with serving(SQUARE, arguments=["--inspector", "0"]) as server:
        url = address_of(server)
        assert url.startswith("http://127.0.0.1:")
        pid = inspector_of(server, url)
        thread = threading.Thread(
            target=lambda: requests.post(
                f"{server.url}/predict", json={"input": 2, "sleep_s": 1}, timeout=30
            )
        )
        thread.start()

        def running() -> Any:
            found = snapshot(url)["entries"].values()
            return [one for one in found if one["state"] == "claimed"]

        assert poll_until(running)[0]["worker"] == 0
        thread.join()
        assert server.stop() == 0
    assert not Path(f"/proc/{pid}").exists()


def test_nothing_of_the_inspector_is_on_the_public_port() -> None:
    with serving(SQUARE, arguments=["--inspector", "0"]) as server:
        address_of(server)
        for path in INSPECTOR_PATHS:
            assert requests.get(server.url + path, timeout=10).status_code == 404
        assert "inspector" not in requests.get(f"{server.url}/openapi.json", timeout=10).text


def test_a_viewer_does_not_hold_up_the_end_of_the_server() -> None:
    with serving(SQUARE, arguments=["--inspector", "0"]) as server:
        url = address_of(server)
        with requests.get(f"{url}/api/stream", stream=True, timeout=20) as stream:
            lines = stream.iter_lines()
            assert next(lines) == b"event: whole"
            assert server.stop() == 0


def test_a_killed_inspector_is_replaced_and_no_request_notices() -> None:
    with serving(SQUARE, arguments=["--inspector", "0"]) as server:
        url = address_of(server)
        pid = inspector_of(server, url)
        os.kill(pid, signal.SIGKILL)
        answer = requests.post(f"{server.url}/predict", json={"input": 3}, timeout=20)
        assert answer.json()["output"] == 9
        poll_until(lambda: answers(url) and inspector_of(server, url) != pid)


def test_the_inspector_ends_when_its_supervisor_is_killed() -> None:
    with serving(SQUARE, arguments=["--inspector", "0"]) as server:
        url = address_of(server)
        pid = inspector_of(server, url)
        os.kill(server.pid, signal.SIGKILL)
        poll_until(lambda: not Path(f"/proc/{pid}").exists())


def test_a_taken_port_is_said_before_the_server_starts() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "cubbyhole",
                "serve",
                SQUARE,
                "--port",
                "0",
                "--inspector",
                str(port),
            ],
            capture_output=True,
            text=True,
            timeout=40,
            check=False,
        )
    assert done.returncode == 1
    assert f"Port {port} on 127.0.0.1 is taken" in done.stderr


def test_it_is_started_on_its_own_for_a_server_that_runs() -> None:
    with serving(SQUARE) as server:
        chosen = ("--server", str(server.pid), "--port", "0")
        with inspector(*chosen) as (process, said):
            found = re.search(r"http://127.0.0.1:\d+", said)
            assert found is not None, said
            url = found[0]
            poll_until(lambda: answers(url))
            assert snapshot(url)["about"]["pid"] == server.pid
            assert requests.get(url, headers={"Host": "evil.example"}, timeout=9).status_code == 421
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 0
        with inspector(*chosen, CUBBYHOLE_INSPECTOR_KEY="by environment") as (_, said):
            found = re.search(r"http://127.0.0.1:\d+", said)
            assert found is not None, said
            other = found[0]
            poll_until(lambda: answers(other))
            assert requests.get(f"{other}/api/snapshot", timeout=9).status_code == 401
            assert snapshot(other, **{"X-API-Key": "by environment"})["state"] == "READY"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_another_user_of_the_machine_sees_nothing_without_a_key() -> None:
    with serving(SQUARE, arguments=["--inspector", "0"]) as server:
        url = address_of(server)
        curl = shutil.which("curl") or pytest.skip("needs curl")
        claim = "X-Forwarded-For: 127.0.0.1"  # changes nothing
        command = [curl, "-s", "-H", claim, "-o", "/dev/null", "-w", "%{http_code}"]
        for uid, status in ((65534, "403"), (0, "200")):
            done = subprocess.run(
                [*command, f"{url}/api/snapshot"],
                user=uid,
                cwd="/",
                capture_output=True,
                text=True,
                timeout=20,
                check=True,
            )
            assert done.stdout == status


def test_a_unix_socket_is_for_this_user_only_and_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "page.sock"
    with serving(SQUARE) as server:
        chosen = ("--server", str(server.pid), "--socket", str(path))
        with inspector(*chosen) as (process, said):
            assert str(path) in said
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            with httpx.Client(transport=httpx.HTTPTransport(uds=str(path), retries=20)) as client:
                assert client.get("http://localhost/api/snapshot").json()["state"] == "READY"
            process.send_signal(signal.SIGINT)
            process.wait(20)
            assert not path.exists()
        path.touch()
        with inspector(*chosen) as (process, said):  # a file of somebody's is not overwritten
            assert process.wait(20) == 1
            assert path.is_file()


def test_it_refuses_to_listen_for_strangers_without_a_key() -> None:
    with serving(SQUARE) as server:
        chosen = ("--server", str(server.pid), "--port", "0")
        with inspector(*chosen, "--host", "0.0.0.0") as (process, said):
            assert "without a key" in said
            assert process.wait(20) == 1
        with inspector(*chosen, "--key", "") as (process, said):
            assert "empty" in said
            assert process.wait(20) == 1


def test_without_a_server_it_says_so() -> None:
    with inspector("--server", "1", "--port", "0") as (process, said):
        assert "No server of yours has pid 1" in said
        assert process.wait(20) == 1
