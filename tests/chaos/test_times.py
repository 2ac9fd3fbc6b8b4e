# SPDX-License-Identifier: Apache-2.0
"""Limits of waiting and running, with real processes: the client is answered in time, whatever becomes of the worker."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import httpx
import pytest
from tests.integration.processes import SERVERS, Asking, state_of

from cubbyhole.testing.serving import serving

if TYPE_CHECKING:
    from pathlib import Path

CHANNELS = ["shm", "sockets"]
WaitUntil = Callable[..., object]


def served_again(url: str) -> httpx.Response | None:
    try:
        answer = httpx.post(url + "/predict", json={"input": 3}, timeout=15)
    except httpx.HTTPError:
        return None
    return answer if answer.status_code == 200 else None


@pytest.mark.parametrize("channel", CHANNELS)
def test_over_its_execution_time_a_request_gets_504_and_its_worker_is_replaced(
    channel: str, wait_until: WaitUntil
) -> None:
    with serving(f"{SERVERS}:limited", environment={"TEST_CHANNEL": channel}) as server:
        pid = httpx.post(server.url + "/predict", json={"input": 1}).json()["pid"]
        asked_s = time.monotonic()
        answer = httpx.post(server.url + "/predict", json={"input": 1, "sleep_s": 600}, timeout=15)
        took_s = time.monotonic() - asked_s
        again = wait_until(lambda: served_again(server.url))
        output = server.output()
    assert answer.status_code == 504
    assert "while it ran" in answer.json()["detail"]
    assert took_s < 15  # the request's own timeout is 30 s
    assert isinstance(again, httpx.Response)
    assert again.json()["pid"] != pid
    assert f"worker stalled: worker=0 pid={pid} entry=" in output


@pytest.mark.parametrize("channel", CHANNELS)
def test_who_waits_too_long_gets_504_and_who_runs_is_left_alone(
    channel: str, tmp_path: Path, wait_until: WaitUntil
) -> None:
    with serving(f"{SERVERS}:limited", environment={"TEST_CHANNEL": channel}) as server:
        begun, never = tmp_path / "begun", tmp_path / "never"
        body = {"input": 2, "sleep_s": 0.9, "begun": str(begun)}
        runs = Asking(server.url + "/predict", body)
        wait_until(begun.exists)
        waits = httpx.post(server.url + "/predict", json={"input": 1, "begun": str(never)})
        assert runs.result().json()["output"] == 4
        after = httpx.post(server.url + "/predict", json={"input": 3})
    assert waits.status_code == 504
    assert "waited" in waits.json()["detail"]
    assert after.json()["output"] == 9
    assert not never.exists()


def test_a_stopped_worker_is_replaced_and_waking_it_changes_nothing(
    tmp_path: Path, wait_until: WaitUntil
) -> None:
    """Its client has 504 in time; it is ended though it cannot run, so nobody is there to publish late."""
    with serving(f"{SERVERS}:impatient") as server:
        pid = httpx.post(server.url + "/predict", json={"input": 1}).json()["pid"]
        begun = tmp_path / "begun"
        asked = Asking(server.url + "/predict", {"input": 2, "sleep_s": 0.5, "begun": str(begun)})
        wait_until(begun.exists)
        os.kill(pid, signal.SIGSTOP)
        assert asked.result().status_code == 504
        again = wait_until(lambda: served_again(server.url))
        assert isinstance(again, httpx.Response)
        assert again.json()["pid"] != pid
        if state_of(pid)[0] not in "ZX":
            os.kill(pid, signal.SIGCONT)
        for number in range(20):
            answer = httpx.post(server.url + "/predict", json={"input": number})
            assert answer.json()["output"] == number**2
            assert answer.json()["pid"] != pid
