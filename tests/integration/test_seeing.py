# SPDX-License-Identifier: Apache-2.0
"""`cubbyhole requests`, `inspect` and `top` look at real servers, also at such that hang."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests
from tests.conftest import poll_until
from tests.integration.crowd import crowd

from cubbyhole.seen.attached import attach, find_servers
from cubbyhole.testing.serving import Served, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

SERVERS = Path(__file__).with_name("servers.py")


def command(*arguments: str, code: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "cubbyhole", *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return done.stdout if code == 0 else done.stderr


@contextmanager
def asked(server: Served, **body: Any) -> Iterator[None]:
    """A request is under way, and ends before the server does."""

    def ask() -> None:
        requests.post(f"{server.url}/predict", json={"input": 2, **body}, timeout=30)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def test_a_request_held_by_a_stopped_worker_is_shown_with_it() -> None:
    with serving(f"{SERVERS}:Square") as server, attach(server.pid) as seen:
        worker = seen.roster.pid(seen.roster.worker_cell(0))
        os.kill(worker, signal.SIGSTOP)
        try:
            with asked(server):
                try:
                    poll_until(seen.entries)
                    found = json.loads(command("requests", "--json", "--server", str(server.pid)))
                    text = command("top", "--once", "--every", "0.1", "--server", str(server.pid))
                finally:
                    os.kill(worker, signal.SIGCONT)
        finally:
            os.kill(worker, signal.SIGCONT)
        (one,) = found["requests"]
        assert one["endpoint"] == "/predict"
        assert one["state"] == "ready"  # nobody claims it: its worker was stopped while it waited
        assert "stopped" in text
        assert str(one["id"]) in text


def test_who_holds_a_request_is_shown_while_every_other_process_is_stopped() -> None:
    with serving(f"{SERVERS}:Square") as server, attach(server.pid) as seen:
        front, worker = seen.roster.pid(0), seen.roster.pid(seen.roster.worker_cell(0))
        with asked(server, sleep_s=2):
            poll_until(lambda: [e for e in seen.entries() if e.state == "CLAIMED"])
            stopped = (server.pid, front, worker)
            for pid in stopped:
                os.kill(pid, signal.SIGSTOP)
            try:
                found = json.loads(command("requests", "--json", "--server", str(server.pid)))
                picture = command(
                    "inspect", str(found["requests"][0]["id"]), "--server", str(server.pid)
                )
            finally:
                for pid in stopped:
                    os.kill(pid, signal.SIGCONT)
        (one,) = found["requests"]
        assert one["state"] == "claimed"
        assert one["worker"] == 0
        assert one["worker_pid"] == worker
        assert one["worker_process"] == "stopped"
        assert one["request_bytes"] > 0
        assert "queue" in picture
        assert "█" in picture


def test_a_request_under_way_is_found_by_the_id_that_its_client_gave() -> None:
    with serving(f"{SERVERS}:Square") as server, attach(server.pid) as seen:
        worker = seen.roster.pid(seen.roster.worker_cell(0))
        os.kill(worker, signal.SIGSTOP)
        try:
            with (
                crowd(server.url, 3, input=2),
                crowd(server.url, 1, headers={"X-Request-ID": "order-17"}, input=2),
            ):
                poll_until(lambda: len(seen.entries()) == 4)
                pid = str(server.pid)
                found = json.loads(command("inspect", "order-17", "--json", "--server", pid))
                assert found["id"] == seen.entries()[-1].id
                text = command("inspect", str(found["id"]), "--server", pid)
                assert "knows no request" in command("inspect", "order-1", "--server", pid, code=1)
        finally:
            os.kill(worker, signal.SIGCONT)
    lines = [line.split(maxsplit=1) for line in text.splitlines() if line]
    assert lines[0] == ["id", str(found["id"])]
    assert ["state", "ready"] in lines
    assert ["try", "1"] in lines


def test_what_a_failure_says_cannot_act_on_a_terminal() -> None:
    failing = f"{SERVERS.with_name('inspected.py')}:make_server"
    with serving(failing) as server:
        body = {"fail": "\x1b[2J\x07no picture"}
        answer = requests.post(f"{server.url}/slow", json=body, timeout=20)
        assert answer.status_code == 500
        pid = str(server.pid)
        for words in (("inspect", answer.headers["x-request-id"]), ("requests", "--past")):
            said = command(*words, "--server", pid)
            assert "no picture" in said
            assert "\x1b" not in said
            assert "\x07" not in said


def test_a_server_that_is_not_there_or_not_yours_is_told_in_one_line_with_what_to_do() -> None:
    with serving(f"{SERVERS}:Square") as server, attach(server.pid) as seen:
        worker = str(seen.roster.pid(seen.roster.worker_cell(0)))
        said = command("requests", "--server", worker, code=1)
        assert "is no supervisor of a server" in said
        assert f"--server {server.pid} is at" in said
        assert "nor has any process" in command("stats", "--server", "4194304", code=1)
        assert "knows no request 12345" in command(
            "inspect", "12345", "--server", str(server.pid), code=1
        )


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_a_server_of_another_user_is_told_as_such() -> None:
    with subprocess.Popen(["sleep", "60"], user=65534) as other:
        try:
            said = command("requests", "--server", str(other.pid), code=1)
        finally:
            other.kill()
    assert "is of uid 65534, and you are uid 0" in said
    assert "sudo -u" in said


def test_why_a_request_failed_is_kept_after_its_worker_was_killed() -> None:
    with serving(f"{SERVERS}:Square") as server:
        answer = requests.post(
            f"{server.url}/predict",
            json={"input": 1, "die": 1},
            headers={"X-Request-ID": "order-17"},
            timeout=20,
        )
        assert answer.status_code == 503
        assert answer.headers["x-request-id"] == "order-17"
        pid = str(server.pid)
        found = json.loads(command("inspect", "order-17", "--json", "--server", pid))
        record = found["failure_record"]
        assert record["code"] == "worker_died"
        assert record["worker"] == 0
        assert record["phases_ms"]["run"] > 0
        text = command("requests", "--past", "--server", pid)
        assert "worker_died" in text


def test_the_traceback_of_a_failed_request_is_found_by_the_id_that_the_client_got() -> None:
    with serving(f"{SERVERS}:Square") as server:
        answer = requests.post(f"{server.url}/predict", json={"input": "word"}, timeout=20)
        assert answer.status_code == 500
        text = command("inspect", answer.headers["x-request-id"], "--server", str(server.pid))
        assert "TypeError" in text
        assert "predict" in text


def test_what_became_of_a_request_is_kept_after_its_answer() -> None:
    with serving(f"{SERVERS}:Square") as server, attach(server.pid) as seen:
        requests.post(f"{server.url}/predict", json={"input": 3}, timeout=20)
        poll_until(seen.history)
        pid = str(server.pid)
        found = json.loads(command("requests", "--past", "--json", "--server", pid))
        (one,) = found["requests"]
        assert (one["state"], one["outcome"], one["status"]) == ("over", "answered", 200)
        assert one["worker"] == 0
        assert list(one["phases_ms"]) == ["intake", "queue", "run", "collect"]
        assert sum(one["phases_ms"].values()) <= one["age_ms"] + 0.01
        assert "200 answered" in command("requests", "--past", "--server", pid)
        picture = command("inspect", str(one["id"]), "--server", pid)
        assert "collect" in picture
        assert "answered" in picture


def test_how_long_requests_are_in_each_phase_is_said_in_one_command() -> None:
    with serving(f"{SERVERS}:Square") as server, attach(server.pid) as seen:
        for _ in range(4):
            requests.post(f"{server.url}/predict", json={"input": 3, "sleep_s": 0.05}, timeout=20)
        poll_until(lambda: seen.histograms()[0].request.count == 4)
        pid = str(server.pid)
        (found,) = json.loads(command("stats", "--json", "--server", pid))["endpoints"]
        assert found["phases_s"]["run"]["count"] == 4
        assert 0.05 <= found["phases_s"]["run"]["mean"] <= found["other_s"]["total"]["mean"]
        assert found["phases_s"]["run"]["share"] > 0.5
        text = command("stats", "--server", pid)
        assert "/predict  4 answered" in text
        assert "█" in text
        (later,) = json.loads(command("stats", "--json", "--seconds", "0.1", "--server", pid))[
            "endpoints"
        ]
        assert later["phases_s"]["run"]["count"] == 0  # nothing came meanwhile


def test_a_request_that_ran_out_of_time_is_kept_with_the_status_that_its_client_got() -> None:
    with serving(f"{SERVERS}:impatient") as server:
        answer = requests.post(
            f"{server.url}/predict", json={"input": 3, "sleep_s": 1.4}, timeout=20
        )
        assert answer.status_code == 504
        with attach(server.pid) as seen:
            poll_until(seen.history)  # its worker goes on with it for a while
            (one,) = seen.history()
        assert (one.outcome, one.status, one.failure) == ("expired", 504, "expired")
        assert one.worker == 0


def test_the_memory_is_mapped_for_reading_only() -> None:
    with serving(f"{SERVERS}:Square") as server, attach(server.pid):
        shared = [
            line.split()
            for line in Path("/proc/self/maps").read_text().splitlines()
            if "memfd:cubbyhole" in line
        ]
        assert shared
        assert {fields[1] for fields in shared} == {"r--s"}


def test_a_server_is_found_until_it_ends() -> None:
    with serving(f"{SERVERS}:Square") as server:
        about, _, _ = find_servers()[server.pid]
        assert f"http://{about.address}" == server.url
        assert about.endpoints == ("/predict",)
    assert server.pid not in find_servers()
    assert str(server.pid) in command("requests", "--server", str(server.pid), code=1)


def test_several_servers_are_told_apart() -> None:
    with serving(f"{SERVERS}:Square") as one, serving(f"{SERVERS}:Negate") as other:
        assert "--server" in command("requests", code=1)
        with attach(one.pid) as first, attach(other.pid) as second:
            requests.post(f"{other.url}/predict", json={"input": 1}, timeout=20)
            assert first.statistics().submitted_total == 0
            assert second.statistics().submitted_total == 1


def test_a_server_whose_entries_cannot_be_seen_says_so() -> None:
    with serving(f"{SERVERS}:one", environment={"TEST_CHANNEL": "sockets"}) as server:
        assert 'channel="sockets"' in command("requests", "--server", str(server.pid), code=1)
        assert "cubbyhole_workers" in requests.get(f"{server.url}/metrics", timeout=20).text


def test_what_a_request_carries_is_shown_only_where_asked_for() -> None:
    with serving(f"{SERVERS}:Square") as server, attach(server.pid) as seen:
        with asked(server, sleep_s=2, word="swordfish"):
            poll_until(lambda: [e for e in seen.entries() if e.state == "CLAIMED"])
            chosen = ("inspect", str(seen.entries()[0].id), "--server", str(server.pid))
            assert "swordfish" not in command(*chosen)
            assert '"word": "swordfish"' in command(*chosen, "--payload")
            found = json.loads(command(*chosen, "--payload", "--json"))
        assert json.loads(found["payload"]["request"]["text"])["word"] == "swordfish"


def test_a_hook_that_hides_payloads_hides_them_from_the_command_line() -> None:
    with serving(f"{SERVERS}:make_hidden") as server, attach(server.pid) as seen:
        with asked(server, sleep_s=2, word="swordfish"):
            poll_until(lambda: [e for e in seen.entries() if e.state == "CLAIMED"])
            chosen = ("inspect", str(seen.entries()[0].id), "--server", str(server.pid))
            said = command(*chosen, "--payload", code=1)
        assert "hides this payload" in said
        assert "swordfish" not in said
