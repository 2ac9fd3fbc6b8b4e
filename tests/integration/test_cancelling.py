# SPDX-License-Identifier: Apache-2.0
"""A client leaves: what waits goes at once, what runs sees it, and who does not look is ended where the operator wants that."""

from __future__ import annotations

import json
import socket
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx
import pytest
from tests.conftest import poll_until

from cubbyhole.seen.attached import attach
from cubbyhole.testing.serving import serving

if TYPE_CHECKING:
    from cubbyhole.seen.attached import AttachedServer

OPERATED = Path(__file__).with_name("operated.py")


def request(url: str, path: str, body: dict[str, Any]) -> socket.socket:
    """Send a request and do not wait for its answer."""
    place = urlsplit(url)
    sock = socket.create_connection((place.hostname, place.port or 80), timeout=20)
    data = json.dumps({"input": 3, **body}).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    sock.sendall(head.encode() + data)
    return sock


def in_state(seen: AttachedServer, state: str) -> int:
    return sum(entry.state == state for entry in seen.entries())


def test_each_kind_of_user_code_sees_that_its_client_left(tmp_path: Path) -> None:
    with serving(f"{OPERATED}:kinds") as server:
        for path in ("/predict", "/async", "/stream"):
            begun, saw = tmp_path / f"begun{path[1:]}", tmp_path / f"saw{path[1:]}"
            sock = request(server.url, path, {"begun": str(begun), "until_cancelled": str(saw)})
            if path == "/stream":
                assert sock.recv(10)
            else:
                poll_until(begun.exists)
            sock.close()
            poll_until(saw.exists)
        assert httpx.post(f"{server.url}/predict", json={"input": 3}).json()["output"] == 9


def test_what_waits_goes_at_once_and_is_never_run(tmp_path: Path) -> None:
    release, never = tmp_path / "release", tmp_path / "never"
    with serving(f"{OPERATED}:watching") as server, attach(server.pid) as seen:
        runs = request(server.url, "/predict", {"until": str(release)})
        poll_until(lambda: in_state(seen, "CLAIMED"))
        waits = request(server.url, "/predict", {"begun": str(never)})
        poll_until(lambda: in_state(seen, "READY"))
        waits.close()
        poll_until(lambda: in_state(seen, "READY") == 0)
        assert in_state(seen, "CLAIMED") == 1
        release.touch()
        assert runs.recv(20).startswith(b"HTTP/1.1 200")
        runs.close()
    assert not never.exists()


def test_who_goes_on_with_what_is_cancelled_is_ended_and_replaced(tmp_path: Path) -> None:
    with serving(f"{OPERATED}:escalating") as server, attach(server.pid) as seen:
        before = seen.roster.pid(seen.roster.worker_cell(0))
        sock = request(server.url, "/predict", {"until": str(tmp_path / "never")})
        poll_until(lambda: in_state(seen, "CLAIMED"))
        sock.close()
        answer = httpx.post(f"{server.url}/predict", json={"input": 5}, timeout=20).json()
        assert (answer["output"], answer["pid"] != before) == (25, True)
        assert "worker goes on with what is cancelled: worker=0" in server.output()


def test_who_goes_on_is_left_alone_without_the_option(tmp_path: Path) -> None:
    release = tmp_path / "release"
    with serving(f"{OPERATED}:watching") as server, attach(server.pid) as seen:
        before = seen.roster.pid(seen.roster.worker_cell(0))
        sock = request(server.url, "/predict", {"until": str(release)})
        poll_until(lambda: in_state(seen, "CLAIMED"))
        sock.close()
        poll_until(lambda: [entry for entry in seen.entries() if entry.cancelled])
        release.touch()
        answer = httpx.post(f"{server.url}/predict", json={"input": 5}, timeout=20).json()
        assert answer["pid"] == before


@pytest.mark.timeout(80)
def test_a_batch_with_somebody_who_still_waits_is_not_ended(tmp_path: Path) -> None:
    """One of two leaves; the other one gets its answer, however long the batch goes on."""
    release = tmp_path / "release"
    answers: list[httpx.Response] = []
    with serving(f"{OPERATED}:escalating_batches") as server, attach(server.pid) as seen:

        def body(name: str) -> dict[str, Any]:
            return {"input": 3, "begun": str(tmp_path / name), "until": str(release)}

        def stay() -> None:
            answers.append(httpx.post(f"{server.url}/predict", json=body("stays"), timeout=40))

        stays = threading.Thread(target=stay)
        stays.start()
        leaves = request(server.url, "/predict", body("leaves"))
        poll_until(lambda: in_state(seen, "CLAIMED") == 2)
        leaves.close()
        poll_until(lambda: [entry for entry in seen.entries() if entry.cancelled])
        looks: list[int] = []  # of the supervisor: its cancelled entry is looked at again and again
        poll_until(lambda: looks.append(in_state(seen, "CLAIMED")) or len(looks) > 200)  # type: ignore[func-returns-value]
        release.touch()
        stays.join()
        output = server.output()
    assert answers[0].json()["output"] == 9
    assert "goes on with what is cancelled" not in output
