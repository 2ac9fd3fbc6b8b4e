# SPDX-License-Identifier: Apache-2.0
"""User code that raises, crashes or runs out of memory, and requests that are too large: what the client sees over HTTP."""

from __future__ import annotations

import http.client
import json
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from cubbyhole.testing.serving import serving

SERVERS = Path(__file__).with_name("chaos_servers.py")
HOOKS = ["decode", "predict", "encode"]


def ask(url: str, body: Any) -> httpx.Response:
    return httpx.post(url + "/predict", json=body, timeout=20)


def test_a_hook_that_raises_costs_its_request_500_and_the_traceback_stays_inside() -> None:
    with serving(f"{SERVERS}:faulty") as server:
        pid = ask(server.url, {"value": 0}).json()["pid"]
        answers = [ask(server.url, {"value": 1, "fail": hook}) for hook in HOOKS]
        after = ask(server.url, {"value": 2})
        output = server.output()
    for hook, answer in zip(HOOKS, answers, strict=True):
        assert answer.status_code == 500
        assert "secret" not in answer.text
        assert f"ValueError: secret detail of {hook}" in output
    assert after.json() == {"value": 2, "pid": pid}


@pytest.mark.parametrize("channel", ["shm", "sockets", "pipes", "manager", "zmq"])
def test_what_a_client_sends_into_an_error_costs_no_worker(channel: str) -> None:
    """Once it did: a failure that could not be encoded ended its worker, and who knew that could stop the server."""
    environment = {"TEST_CHANNEL": channel}
    half = b'{"value": 1, "fail": "predict", "text": "\\ud800"}'
    with serving(f"{SERVERS}:faulty", environment=environment) as server:
        pid = ask(server.url, {"value": 0}).json()["pid"]
        failed = httpx.post(server.url + "/predict", content=half, timeout=20)
        after = ask(server.url, {"value": 2})
    assert failed.status_code == 500
    assert after.json() == {"value": 2, "pid": pid}


def test_a_number_without_end_is_a_violation_and_costs_no_worker() -> None:
    with serving(f"{SERVERS}:validated") as server:
        pid = ask(server.url, {"value": 0}).json()["pid"]
        refused = ask(server.url, {"value": 10**40})
        after = ask(server.url, {"value": 2})
    assert refused.status_code == 422
    assert refused.json()["detail"][0]["input"] == str(10**40)
    assert after.json() == {"value": 2, "pid": pid}


@pytest.mark.parametrize("hook", HOOKS)
def test_one_bad_item_of_a_batch_fails_alone(hook: str) -> None:
    with serving(f"{SERVERS}:faulty_batches") as server:
        bodies: list[Any] = [{"value": n} for n in range(8)]
        bodies[3]["fail"] = hook
        with ThreadPoolExecutor(8) as threads:
            answers = list(threads.map(lambda body: ask(server.url, body), bodies))
        output = server.output()
    statuses = [answer.status_code for answer in answers]
    assert statuses == [200] * 3 + [500] + [200] * 4
    assert [a.json()["value"] for a in answers if a.status_code == 200] == [0, 1, 2, 4, 5, 6, 7]
    assert "worker replaced" not in output


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("segmentation fault", "signal:SIGSEGV"),
        ("abort", "signal:SIGABRT"),
        ("exit", "exit:3"),
    ],
)
def test_native_code_that_crashes_costs_its_request_503_and_the_next_one_is_served(
    fault: str, reason: str
) -> None:
    with serving(f"{SERVERS}:faulty") as server:
        pid = ask(server.url, {"value": 0}).json()["pid"]
        died = ask(server.url, {"value": 1, "fault": fault})
        after = ask(server.url, {"value": 2})
        output = server.output()
    assert died.status_code == 503
    assert int(died.headers["Retry-After"]) >= 1
    assert after.json()["value"] == 2
    assert after.json()["pid"] != pid
    assert f"worker replaced: worker=0 pid={pid} reason={reason} failed_entries=1" in output


def test_a_request_for_which_there_is_no_memory_is_answered_500_and_its_worker_goes_on() -> None:
    with serving(f"{SERVERS}:faulty") as server:
        pid = ask(server.url, {"value": 0}).json()["pid"]
        refused = ask(server.url, {"value": 1, "fault": "no memory"})
        after = ask(server.url, {"value": 2})
        output = server.output()
    assert refused.status_code == 500
    assert "MemoryError" in output
    assert after.json() == {"value": 2, "pid": pid}


def test_a_generator_that_raises_in_mid_stream_ends_the_answer_as_broken() -> None:
    with serving(f"{SERVERS}:streams") as server:
        connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=10)
        connection.request("POST", "/predict", json.dumps({"lines": 9, "raise_at": 3}))
        answer = connection.getresponse()
        assert answer.status == 200
        with pytest.raises(http.client.IncompleteRead) as caught:
            answer.read()
        connection.close()
        after = httpx.post(server.url + "/predict", json={"lines": 3})
    assert caught.value.partial == b"0\n1\n2\n"
    assert after.text == "0\n1\n2\n"


@pytest.mark.parametrize("how", ["declared", "chunked"])
def test_a_body_over_the_limit_is_answered_413_before_it_is_sent(how: str) -> None:
    head = b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
    with serving(f"{SERVERS}:small_payloads") as server:
        host, _, port = server.url.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            if how == "declared":  # what the arena could hold, of which one byte is sent
                connection.sendall(head + b"Content-Length: 900000000\r\n\r\n{")
            else:
                connection.sendall(head + b"Transfer-Encoding: chunked\r\n\r\n")
                for _ in range(3):
                    connection.sendall(b"%x\r\n" % 50_000 + b" " * 50_000 + b"\r\n")
            answer = http.client.HTTPResponse(connection)
            answer.begin()
            assert answer.status == 413
            assert "too large" in json.loads(answer.read())["detail"]
        assert ask(server.url, {"value": 1}).json()["value"] == 1
