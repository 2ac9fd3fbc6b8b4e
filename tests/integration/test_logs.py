# SPDX-License-Identifier: Apache-2.0
"""Logs of real servers: one object a line, and the request's id in what user code says, in all kinds of loops."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests
from tests.conftest import poll_until

from cubbyhole.seen.attached import attach
from cubbyhole.testing.serving import Served, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

SERVERS = Path(__file__).with_name("traced_servers.py")
ARGUMENTS = ["--log", "json", "--access-log", "--request-ids"]


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with serving(f"{SERVERS}:every_kind", arguments=ARGUMENTS, timeout_s=60) as served:
        yield served


def ask(server: Served, body: Any, path: str, name: str) -> requests.Response:
    return requests.post(
        f"{server.url}{path}", json=body, headers={"X-Request-ID": name}, timeout=20
    )


def lines(server: Served) -> list[dict[str, Any]]:
    """Every line of the server's output; each is an object."""
    return [json.loads(line) for line in server.output().splitlines()]


def said(server: Served, event: str) -> list[dict[str, Any]]:
    return [line for line in lines(server) if line["event"].startswith(event)]


def test_what_predict_logs_has_the_requests_id(server: Served) -> None:
    ask(server, {"input": 1, "log": "a single one"}, "/predict", "single-1")
    (line,) = poll_until(lambda: said(server, "a single one"))
    assert line["request_id"] == "single-1"
    assert line["logger"] == "model"
    assert line["level"] == "warning"


def test_a_request_without_an_id_has_the_entrys_and_its_client_gets_it(server: Served) -> None:
    answer = requests.post(
        f"{server.url}/predict", json={"input": 1, "log": "nameless"}, timeout=20
    )
    (line,) = poll_until(lambda: said(server, "nameless"))
    assert line["request_id"] == answer.headers["x-request-id"]
    assert line["request_id"].isdigit()


def test_no_id_sticks_to_what_comes_after_a_request(server: Served) -> None:
    ask(server, {"input": 1, "log": "first"}, "/predict", "sticky")
    ask(server, {"input": 1, "log": "second", "thread": 1}, "/predict", "other")
    poll_until(lambda: said(server, "second"))
    assert said(server, "second")[0]["request_id"] == "other"
    assert "request_id" not in said(server, "in a thread")[0]  # contextvars do not follow threads


def test_a_batchs_records_have_the_ids_of_all_its_requests(server: Served) -> None:
    names = [f"batch-{number}" for number in range(3)]
    threads = [
        threading.Thread(target=ask, args=(server, {"input": number}, "/sums", name))
        for number, name in enumerate(names)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (line,) = poll_until(lambda: said(server, "batch of 3"))
    assert sorted(line["request_id"].split(",")) == names


@pytest.mark.parametrize("path", ["/count", "/acount"])
def test_each_step_of_a_stream_has_the_requests_id(server: Served, path: str) -> None:
    name = f"stream{path.strip('/')}"
    ask(server, {"input": 3}, path, name)
    mine = poll_until(lambda: [one for one in lines(server) if one.get("request_id") == name][2:])
    assert mine


def test_coroutines_that_take_turns_keep_their_ids(server: Served) -> None:
    names = [f"turn-{number}" for number in range(4)]
    threads = [
        threading.Thread(target=ask, args=(server, {"sleep_s": 0.3}, "/later", name))
        for name in names
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    poll_until(lambda: len(said(server, "after")) >= 4)
    assert sorted(line["request_id"] for line in said(server, "after")) == names
    assert sorted(line["request_id"] for line in said(server, "before")) == names


def test_a_failure_is_one_line_with_traceback_and_id(server: Served) -> None:
    answer = ask(server, {"raise": 1}, "/predict", "fails-1")
    assert answer.status_code == 500
    assert answer.headers["x-request-id"] == "fails-1"
    line = poll_until(
        lambda: [one for one in said(server, "request failed") if "exception" in one]
    )[0]
    assert line["request_id"] == "fails-1"
    assert "ValueError: no such picture\nin two lines" in line["exception"]
    assert line["path"] == "/predict"


@pytest.mark.parametrize(
    ("sent", "shown"),
    [(b"a\x01b\tc", "abc"), (b"x" * 999, "x" * 200), ("ß€".encode(), None), (b'a"b{}', 'a"b{}')],
)
def test_an_id_is_cleaned_before_it_is_shown(
    server: Served, sent: bytes, shown: str | None
) -> None:
    headers = {b"X-Request-ID": sent}
    answer = requests.post(f"{server.url}/predict", json={"input": 1}, headers=headers, timeout=20)  # type: ignore[arg-type]
    if answer.status_code == 400 and "x-request-id" not in answer.headers:
        pytest.skip("the HTTP parser refuses it already")
    found = answer.headers["x-request-id"]
    assert found == shown if shown is not None else found.isdigit()


def test_every_request_has_its_line_in_the_access_log(server: Served) -> None:
    ask(server, {"input": 1}, "/predict", "logged-1")
    requests.get(f"{server.url}/health", timeout=20)
    line = poll_until(
        lambda: [
            one
            for one in said(server, "request")
            if one.get("request_id") == "logged-1" and one["logger"] == "cubbyhole.access"
        ]
    )[0]
    assert (line["method"], line["path"], line["status"]) == ("POST", "/predict", 200)
    assert line["duration_ms"] > 0
    assert line["client"].startswith("127.0.0.1:")
    poll_until(lambda: [one for one in said(server, "request") if one.get("path") == "/health"])


def test_uvicorns_lines_are_objects_too(server: Served) -> None:
    poll_until(lambda: said(server, "Uvicorn running on http"))
    assert {"uvicorn.error", "cubbyhole.supervise.pool"} <= {
        line["logger"] for line in lines(server)
    }


@pytest.mark.parametrize("lane", ["steps", "behind_fastapi"])
def test_every_answer_has_an_id_also_those_that_are_refused(lane: str) -> None:
    with serving(f"{SERVERS}:{lane}", arguments=["--request-ids"], timeout_s=60) as server:
        url = f"{server.url}/predict"
        answers = [
            requests.post(url, json={"input": 1}, timeout=20),
            requests.post(url, data="{", timeout=20),
            requests.post(url, json={"raise": 1}, timeout=20),
        ]
        assert [answer.status_code for answer in answers] == [200, 400, 500]
        ids = [answer.headers["x-request-id"] for answer in answers]
        assert len(set(ids)) == 3
        assert (
            requests.post(
                url, json={"input": 1}, headers={"X-Request-ID": "mine"}, timeout=20
            ).headers["x-request-id"]
            == "mine"
        )


def test_without_the_option_only_failures_and_who_asks_get_an_id() -> None:
    with serving(f"{SERVERS}:steps", timeout_s=60) as server:
        url = f"{server.url}/predict"
        assert "x-request-id" not in requests.post(url, json={"input": 1}, timeout=20).headers
        assert requests.post(url, json={"raise": 1}, timeout=20).headers["x-request-id"].isdigit()
        named = {"X-Request-ID": "mine"}
        answer = requests.post(url, json={"input": 1}, headers=named, timeout=20)
        assert answer.headers["x-request-id"] == "mine"


@pytest.mark.parametrize("lane", ["steps", "behind_fastapi"])
def test_a_line_of_the_access_log_goes_by_the_clients_id_or_its_entrys(lane: str) -> None:
    arguments = ["--access-log", "--log", "json"]
    with serving(f"{SERVERS}:{lane}", arguments=arguments, timeout_s=60) as server:
        url = f"{server.url}/predict"
        assert requests.post(url, json={"input": 1}, timeout=20).ok
        assert requests.post(url, json={"raise": 1}, timeout=20).status_code == 500
        named = {"X-Request-ID": "gave-up"}
        with pytest.raises(requests.ReadTimeout):
            requests.post(url, json={"sleep_s": 2}, headers=named, timeout=0.5)

        def logged() -> dict[int, dict[str, Any]]:
            found = [one for one in said(server, "request") if one.get("path") == "/predict"]
            return {one["status"]: one for one in found if one["logger"] == "cubbyhole.access"}

        by_status = poll_until(
            lambda: found if (found := logged()).keys() >= {200, 500, 499} else {}
        )
        with attach(server.pid) as seen:
            ended = {str(entry.id): entry.outcome for entry in seen.history()}
        assert ended[by_status[200]["request_id"]] == "answered"
        assert ended[by_status[500]["request_id"]] == "failed"
        assert by_status[499]["request_id"] == "gave-up"
        assert not said(server, "Exception in ASGI application")
