# SPDX-License-Identifier: Apache-2.0
"""No descriptors left: who is inside is served, who comes is refused or waits, nobody spins, and it passes."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import httpx
from tests.integration.processes import SERVERS

from cubbyhole.testing.serving import serving

WaitUntil = Callable[..., object]


def open_descriptors(pid: int) -> list[int]:
    return [int(entry.name) for entry in Path(f"/proc/{pid}/fd").iterdir()]


def cpu_s(pid: int) -> float:
    """User and system time so far."""
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def test_a_front_without_descriptors_serves_whom_it_has_and_recovers(wait_until: WaitUntil) -> None:
    with (
        serving(f"{SERVERS}:two_workers", arguments=["--fronts", "1"]) as server,
        httpx.Client(timeout=10) as inside,
        contextlib.ExitStack() as idle,
    ):
        url, body = server.url + "/predict", {"input": 3}
        front = inside.get(server.url + "/front").json()
        had = resource.prlimit(front, resource.RLIMIT_NOFILE)
        few = max(open_descriptors(front)) + 6
        resource.prlimit(front, resource.RLIMIT_NOFILE, (few, had[1]))
        host, _, port = server.url.removeprefix("http://").partition(":")
        for _ in range(40):
            connection = socket.create_connection((host, int(port)), timeout=5)
            idle.enter_context(connection)
            with contextlib.suppress(OSError):
                connection.sendall(b"POST ")
        wait_until(lambda: len(open_descriptors(front)) >= few - 1)

        before_s, begun_s = cpu_s(front), time.monotonic()
        wait_until(lambda: time.monotonic() - begun_s > 1.5)
        used = (cpu_s(front) - before_s) / (time.monotonic() - begun_s)
        assert inside.post(url, json=body).json()["output"] == 9
        assert used < 0.5, f"a front that waits for descriptors uses {used:.2f} of a core"

        idle.close()
        resource.prlimit(front, resource.RLIMIT_NOFILE, had)

        def newcomer() -> bool:
            try:
                return bool(httpx.post(url, json=body, timeout=5).status_code == 200)
            except httpx.HTTPError:
                return False

        wait_until(newcomer, timeout_s=15)
        assert inside.get(server.url + "/front").json() == front
        assert "front replaced" not in server.output()
        assert server.stop() == 0


def test_a_supervisor_without_descriptors_starts_the_worker_when_it_has_some_again(
    wait_until: WaitUntil,
) -> None:
    with serving(f"{SERVERS}:one", arguments=["--fronts", "1"]) as server:
        url = server.url + "/predict"
        pid = httpx.post(url, json={"input": 1}).json()["pid"]
        had = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
        few = min(set(range(1000)) - set(open_descriptors(server.pid)))
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (few, had[1]))
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: "reason=not_started:" in server.output())
        assert httpx.get(server.url + "/health").status_code == 503
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, had)

        def served() -> httpx.Response | None:
            answer = httpx.post(url, json={"input": 3}, timeout=15)
            return answer if answer.status_code == 200 else None

        answer = wait_until(served, timeout_s=20)
        assert isinstance(answer, httpx.Response)
        assert answer.json()["output"] == 9
        assert server.stop() == 0
