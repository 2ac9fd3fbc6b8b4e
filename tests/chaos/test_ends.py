# SPDX-License-Identifier: Apache-2.0
"""Requests that the server's end cannot wait for: their clients are told 503, or see that the answer breaks off; never a 500."""

from __future__ import annotations

import http.client
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.chaos.test_mixed import held
from tests.integration.processes import SERVERS as INTEGRATION
from tests.integration.processes import Asking, descendants, living

from cubbyhole.testing.serving import serving

SERVERS = Path(__file__).with_name("chaos_servers.py")
WaitUntil = Callable[..., object]


@pytest.mark.parametrize("lane", ["fast", "slow"])
def test_a_client_that_waits_when_the_supervisor_is_killed_gets_503(
    lane: str, tmp_path: Path, wait_until: WaitUntil
) -> None:
    begun = tmp_path / "begun"
    with serving(f"{SERVERS}:patient_{lane}") as server:
        asked = Asking(server.url + "/predict", {"sleep_s": 60, "begun": str(begun)})
        wait_until(begun.exists)
        os.kill(server.pid, signal.SIGKILL)
        answer = asked.result()
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) >= 1


@pytest.mark.parametrize("lane", ["fast", "slow"])
def test_a_request_that_outlasts_the_drain_gets_503_and_the_server_ends(
    lane: str, tmp_path: Path, wait_until: WaitUntil
) -> None:
    begun = tmp_path / "begun"
    with serving(f"{SERVERS}:patient_{lane}") as server:
        asked = Asking(server.url + "/predict", {"sleep_s": 60, "begun": str(begun)})
        wait_until(begun.exists)
        children = descendants(server.pid)
        assert server.stop() == 0
        answer = asked.result()
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) >= 1
    assert living(children) == []


def test_sigterm_waits_for_all_that_run_and_all_that_are_queued(wait_until: WaitUntil) -> None:
    """All six are in the channel when the signal comes: two run, four wait."""
    with serving(f"{INTEGRATION}:echoes", arguments=["--fronts", "1"]) as server:
        bodies = [{"data": n, "sleep_s": 1.5} for n in range(6)]
        asked = [Asking(server.url + "/predict", body) for body in bodies]
        wait_until(lambda: held(server.url)["slots"] == 6)
        assert server.stop() == 0
        answers = [one.result() for one in asked]
    assert [answer.status_code for answer in answers] == [200] * 6
    assert [answer.json() for answer in answers] == bodies


def test_a_stream_that_outlasts_the_drain_breaks_off() -> None:
    with serving(f"{SERVERS}:patient_stream") as server:
        connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=20)
        connection.request("POST", "/predict", json.dumps({"lines": 10**6, "sleep_s": 0.01}))
        answer = connection.getresponse()
        assert answer.readline() == b"0\n"
        assert server.stop() == 0
        with pytest.raises((http.client.IncompleteRead, ConnectionError)):
            answer.read()
        connection.close()
