# SPDX-License-Identifier: Apache-2.0
"""A kept request is sent again, as it was and without what its client had to keep secret."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import requests
from tests.integration.test_seeing import command

from cubbyhole.seen.attached import attach
from cubbyhole.testing.serving import Served, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

SERVERS = Path(__file__).with_name("servers.py")
KEEPING = ["--keep-requests", "8MB", "--request-ids"]


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with serving(f"{SERVERS}:one", arguments=KEEPING, timeout_s=60) as served:
        yield served


def replay(server: Served, name: str, *more: str) -> tuple[str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "cubbyhole", "replay", name, "--server", str(server.pid), *more],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def test_a_request_is_sent_again_and_its_answer_shown(server: Served) -> None:
    answer = requests.post(f"{server.url}/predict", json={"input": 7}, timeout=20)
    out, told = replay(server, answer.headers["x-request-id"])
    assert json.loads(out)["output"] == 49
    assert "POST /predict, 12 bytes" in told
    assert "200 OK in" in told


def test_a_failed_request_is_found_by_its_clients_id_and_marked(server: Served) -> None:
    headers = {"X-Request-ID": "fails-1"}
    requests.post(f"{server.url}/predict", json={"input": "word"}, headers=headers, timeout=20)
    for number in range(50):
        requests.post(f"{server.url}/predict", json={"input": number}, timeout=20)
    _, told = replay(server, "fails-1")
    assert "500 Internal Server Error" in told
    pid = str(server.pid)
    found = json.loads(command("requests", "--past", "--json", "--server", pid))
    assert all(one["kept"] for one in found["failures"])
    assert " *" in command("requests", "--past", "--server", pid)


def test_no_key_cookie_or_other_header_is_kept(server: Served) -> None:
    secrets = {"Authorization": "Bearer s3cr3t", "X-API-Key": "s3cr3t", "Cookie": "a=s3cr3t"}
    headers = {**secrets, "X-Request-ID": "with-secrets", "X-Other": "s3cr3t"}
    requests.post(f"{server.url}/predict?a=1", json={"input": 2}, headers=headers, timeout=20)
    with attach(server.pid) as seen:
        assert seen.kept is not None
        (one,) = [kept for kept in seen.kept.read() if kept.request_id == "with-secrets"]
        assert "s3cr3t" not in repr(one)
        assert (one.method, one.path, one.query) == ("POST", "/predict", "a=1")
        assert one.content_type == "application/json"
        assert b"s3cr3t" not in bytes(seen.kept._bytes)


def test_a_large_body_that_came_in_pieces_is_kept_whole(server: Served) -> None:
    body = {"input": 3, "filling": "x" * 300_000}
    answer = requests.post(f"{server.url}/predict", json=body, timeout=20)
    out, told = replay(server, answer.headers["x-request-id"])
    assert json.loads(out)["output"] == 9
    assert "300" in told


def test_another_server_can_be_asked_and_what_is_not_kept_is_told(server: Served) -> None:
    answer = requests.post(f"{server.url}/predict", json={"input": 7}, timeout=20)
    pid = str(server.pid)
    with serving(f"{SERVERS}:Square", timeout_s=60) as other:
        out, told = replay(server, answer.headers["x-request-id"], "--url", other.url)
        assert json.loads(out)["output"] == 49
        assert other.url.removeprefix("http://") in told
        text = command("replay", "1", "--server", str(other.pid), code=1)
        assert "keeps no requests" in text
    assert "not kept" in command("replay", "1", "--server", pid, code=1)
    text = command(
        "replay", answer.headers["x-request-id"], "--url", other.url, "--server", pid, code=1
    )
    assert "gave no answer" in text


def test_a_request_that_was_never_answered_is_kept() -> None:
    with serving(f"{SERVERS}:one", arguments=KEEPING, timeout_s=60) as server:
        requests.post(f"{server.url}/predict", json={"input": 1, "die": 1}, timeout=20)
        with attach(server.pid) as seen:
            assert seen.kept is not None
            assert {one.status for one in seen.kept.read()} == {0, 503}
