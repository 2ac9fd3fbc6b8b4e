# SPDX-License-Identifier: Apache-2.0
"""What a server was doing is read from a file after nothing of it is left."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import stat
import threading
from pathlib import Path
from typing import Any

import requests
from tests.conftest import poll_until
from tests.integration.processes import descendants, living
from tests.integration.test_seeing import command

from cubbyhole.seen.attached import find_servers
from cubbyhole.testing.serving import Served, serving

SERVERS = Path(__file__).with_name("servers.py")


def ask(server: Served, **body: Any) -> None:
    with contextlib.suppress(requests.ConnectionError):  # it is killed
        requests.post(f"{server.url}/predict", json={"input": 2, **body}, timeout=30)


def read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return found


def under_way(path: Path) -> list[dict[str, Any]]:
    return [one for one in read(path).get("entries", []) if one["state"] == "CLAIMED"]


def test_after_kill_9_of_everything_the_last_state_is_read_from_the_file(tmp_path: Path) -> None:
    path = tmp_path / "last.json"
    arguments = ["--post-mortem", str(path)]
    with serving(f"{SERVERS}:Square", arguments=arguments, timeout_s=60) as server:
        private = "the patient's name"
        body = {"sleep_s": 60, "name": private}
        thread = threading.Thread(target=ask, args=(server,), kwargs=body)
        thread.start()
        poll_until(lambda: under_way(path), timeout_s=30)
        (one,) = under_way(path)
        pids = [server.pid, *descendants(server.pid)]
        os.kill(server.pid, signal.SIGSTOP)  # so that it cannot bury the others
        for pid in pids[1:]:
            os.kill(pid, signal.SIGKILL)
        os.kill(server.pid, signal.SIGKILL)
        poll_until(lambda: not living(pids))
        thread.join()
    assert server.pid not in find_servers()
    found = json.loads(command("requests", "--file", str(path), "--json"))
    assert [entry["id"] for entry in found["requests"]] == [one["id"]]
    assert found["requests"][0]["state"] == "claimed"
    assert found["requests"][0]["worker_pid"] in pids
    assert "claimed" in command("requests", "--file", str(path))
    assert "running)" in command("requests", "--file", str(path))
    text = command("inspect", str(one["id"]), "--file", str(path))
    assert "queue" in text
    assert "█" in text
    assert private not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [one.name for one in tmp_path.iterdir()] == ["last.json"]


def test_a_lost_worker_is_in_the_file_with_its_request_and_the_end_says_its_cause(
    tmp_path: Path,
) -> None:
    path = tmp_path / "last.json"
    arguments = ["--post-mortem", str(path)]
    with serving(f"{SERVERS}:strict", arguments=arguments, timeout_s=60) as server:
        ask(server, die=1)
        assert server.process is not None
        server.process.wait(30)
    assert "ended: WorkerDied" in read(path)["cause"]
    (failure,) = read(path)["failures"]
    assert failure["code"] == "worker_died"
    text = command("inspect", str(failure["id"]), "--file", str(path))
    assert "503 worker_died" in text


def test_an_orderly_end_is_told_from_a_crash_and_a_full_disk_ends_nothing(tmp_path: Path) -> None:
    path = tmp_path / "last.json"
    arguments = ["--post-mortem", str(path)]
    with serving(f"{SERVERS}:Square", arguments=arguments, timeout_s=60) as server:
        poll_until(path.exists)
        path.unlink()
        path.mkdir()  # a rename on it fails, as one on a full or read-only disk does
        ask(server)
        poll_until(lambda: "post mortem not written" in server.output())
        path.rmdir()
        ask(server)
        poll_until(path.is_file)
        assert server.stop() == 0
    assert read(path)["cause"] == "ended in order"
    assert [one.name for one in tmp_path.iterdir()] == ["last.json"]


def test_a_file_that_is_none_of_ours_is_refused_in_one_line(tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    other.write_text('{"format": 1}')
    assert "not a post mortem" in command("requests", "--file", str(other), code=1)
    assert "cannot be read" in command("inspect", "1", "--file", str(tmp_path / "none"), code=1)
