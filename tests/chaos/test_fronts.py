# SPDX-License-Identifier: Apache-2.0
"""Fronts are watched as workers are; and what killed workers can be looked at afterwards."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import httpx
import pytest
from tests.conftest import poll_until
from tests.integration.test_operating import command

from cubbyhole.seen.attached import attach
from cubbyhole.testing.serving import serving

OPERATED = Path(__file__).parents[1] / "integration" / "operated.py"


@pytest.mark.timeout(80)
def test_a_stopped_front_is_replaced_and_waking_it_changes_nothing() -> None:
    with serving(f"{OPERATED}:impatient_with_fronts") as server, attach(server.pid) as seen:
        assert httpx.post(f"{server.url}/predict", json={"input": 2}).json()["output"] == 4
        front = seen.roster.pid(0)
        begun_ns = seen.roster.last_beat_ns(0)
        # Before it has beaten again it counts as starting up, and is given five minutes.
        poll_until(lambda: seen.roster.last_beat_ns(0) > begun_ns + 1_500_000_000)
        os.kill(front, signal.SIGSTOP)
        poll_until(lambda: seen.roster.pid(0) not in (0, front), timeout_s=30)
        answer = httpx.post(f"{server.url}/predict", json={"input": 3}, timeout=20)
        assert answer.json()["output"] == 9
        assert f"front silent: front=0 pid={front}" in server.output()
        assert not Path(f"/proc/{front}").exists()
        assert server.stop() == 0


@pytest.mark.timeout(80)
def test_what_killed_worker_after_worker_is_kept_with_its_history() -> None:
    with serving(f"{OPERATED}:poisoned") as server, attach(server.pid) as seen:
        headers = {"X-Request-ID": "the-bad-one"}
        url = f"{server.url}/predict"
        answer = httpx.post(url, json={"input": 1, "die": True}, headers=headers, timeout=40)
        assert answer.status_code == 500
        poll_until(lambda: len(next(iter(seen.deaths().values()), [])) == 3)
        code, text = command(server, "requests", "--quarantined", "--json")
        assert code == 0
        (one,) = json.loads(text)["quarantined"]
        assert one["request_id"] == "the-bad-one"
        assert [death["attempt"] for death in one["deaths"]] == [0, 1, 2]
        assert all("ended with exit:9" in death["message"] for death in one["deaths"])
        text = command(server, "requests", "--quarantined")[1]
        assert "1 requests quarantined" in text
        assert "try 3: worker" in text
        text = command(server, "inspect", "the-bad-one")[1]
        assert "failed: 500 poison" in text
        assert text.count("ended with exit:9") == 3
