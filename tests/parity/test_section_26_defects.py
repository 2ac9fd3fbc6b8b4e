# SPDX-License-Identifier: Apache-2.0
"""Section 26: defects whose guard stands in no other file. docs/migrating.md has the list of all 42."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests
from fastapi.testclient import TestClient
from parity_apis import Anything, Chat, Square

import cubbyhole as ls
from cubbyhole.testing.serving import running, serving
from cubbyhole.utils import wrap_litserve_start

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]


def test_fast_queue_says_that_it_does_nothing() -> None:
    """Defect 1: it did nothing, in silence."""
    with pytest.warns(UserWarning, match="fast_queue has no effect"):
        ls.LitServer(Square(), fast_queue=True)


def test_chats_leave_nothing_behind(wait_until: Callable[..., Any]) -> None:
    """Defect 16: one entry for each choice was kept for good."""
    body = {"model": "m", "messages": [{"role": "user", "content": "x"}], "n": 2}
    server = ls.LitServer(Chat(spec=ls.OpenAISpec()))
    with wrap_litserve_start(server), TestClient(server.app) as client:
        wait_until(lambda: client.get("/health").status_code == 200)
        for stream in (False, True, False, True):
            answer = client.post("/v1/chat/completions", json={**body, "stream": stream})
            assert answer.status_code == 200
        assert server.desk.place is not None
        channel = server.desk.place.channel
        wait_until(lambda: channel.statistics().slots_used == 0)
        assert channel.statistics().submitted_total >= 4


def test_thread_says_that_fronts_are_processes() -> None:
    """Defect 25: threads could not be stopped."""
    from cubbyhole.front.options import check_run

    with pytest.warns(UserWarning, match="processes"):
        check_run("127.0.0.1", None, "thread")
    check_run("127.0.0.1", None, "process")
    check_run("127.0.0.1", None, None)


def test_mcp_needs_and_loads_no_package() -> None:
    """Defect 31: the mere presence of `mcp` 2 broke every server."""
    code = (
        "import sys\n"
        "sys.modules['mcp'] = sys.modules['fastmcp'] = None\n"
        "import cubbyhole as ls\n"
        "from cubbyhole.mcp import MCP\n"
        "from cubbyhole.test_examples import SimpleLitAPI\n"
        "ls.LitServer(SimpleLitAPI(mcp=MCP(description='d')))\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_failed_request_is_not_counted_for_good(wait_until: Callable[..., Any]) -> None:
    """Defect 32: an exception leaked a count, and a health path of one's own was counted."""
    server = ls.LitServer(Anything(), track_requests=True, healthcheck_path="/up")
    with serving(server) as served:
        for body in ({"raise": "x"}, {"http": 418}, 1):
            requests.post(f"{served.url}/predict", json=body, timeout=10)
        requests.get(f"{served.url}/up", timeout=10)
        wait_until(lambda: server.desk.active == 0)


SCRIPT = """
import asyncio
import cubbyhole as ls

class Sleeps(ls.LitAPI):
    async def predict(self, x):
        await asyncio.sleep(x)
        return x

if __name__ == "__main__":
    ls.LitServer(Sleeps(enable_async=True)).run(
        host="localhost", port=0, log_level="trace", timeout_graceful_shutdown=5
    )
"""


def test_uvicorns_options_and_names_are_taken_and_an_idle_async_worker_ends(tmp_path: Path) -> None:
    """Defects 35 and 36: its thread never woke up to stop; log_level="trace" and a host by name were errors."""
    script = tmp_path / "server.py"
    script.write_text(SCRIPT)
    with running([sys.executable, str(script)]) as served:
        assert requests.post(f"{served.url}/predict", json=0, timeout=10).json() == 0
        assert served.stop() == 0


def test_no_client_file_is_written_unless_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Defect 42."""
    script = tmp_path / "server.py"
    script.write_text(SCRIPT)
    monkeypatch.chdir(tmp_path)
    environment = {"PYTHONPATH": str(Path(ls.__file__).parents[1])}
    with running([sys.executable, str(script)], environment=environment) as served:
        assert requests.get(served.url, timeout=10).ok
    assert [path.name for path in tmp_path.iterdir()] == ["server.py"]


def test_every_defect_is_decided_and_its_guard_exists() -> None:
    text = (ROOT / "docs" / "migrating.md").read_text()
    rows = dict(re.findall(r"^\| (\d+) \| (.*)$", text, re.MULTILINE))
    assert sorted(map(int, rows)) == list(range(1, 43))
    for number, row in rows.items():
        assert re.search(r"\b(corrected|kept)\b", row), f"defect {number} is not decided"
        guards = re.findall(r"`((?:tests|bench|src)/[\w./]+)(?:::(\w+))?`", row)
        assert guards or "kept" in row, f"defect {number} names no guard"
        for path, name in guards:
            assert (ROOT / path).exists(), f"defect {number}: {path}"
            assert name in (ROOT / path).read_text(), f"defect {number}: {path}::{name}"
