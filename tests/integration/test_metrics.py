# SPDX-License-Identifier: Apache-2.0
"""`/metrics` of real servers, read with the official parser."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests
from prometheus_client.openmetrics import parser as openmetrics_parser
from prometheus_client.parser import text_string_to_metric_families
from tests.conftest import poll_until

from cubbyhole.seen.attached import attach
from cubbyhole.testing.serving import Served, serving

SERVERS = Path(__file__).with_name("servers.py")


def samples(url: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    answer = requests.get(f"{url}/metrics", timeout=10)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def key(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return f"cubbyhole_{name}", frozenset(labels.items())


def test_all_fronts_tell_one_truth() -> None:
    with serving(f"{SERVERS}:Square", arguments=["--fronts", "2"]) as server:
        for number in range(7):
            requests.post(f"{server.url}/predict", json={"input": number}, timeout=10)
        for _ in range(6):  # connections are spread over the fronts
            found = samples(server.url)
            assert found[key("requests_total", outcome="answered")] == 7
            assert found[key("requests_submitted_total")] == 7
            assert found[key("queue_depth", endpoint="/predict")] == 0


def ask(server: Served, timeout_s: float = 20, **body: object) -> int:
    return requests.post(f"{server.url}/predict", json=body, timeout=timeout_s).status_code


def test_histograms_are_consistent_and_by_endpoint() -> None:
    with serving(f"{SERVERS}:two") as server:
        for number in range(5):
            requests.post(f"{server.url}/square", json={"input": number}, timeout=20)
        found = samples(server.url)
        for name in ("request", "queue", "execute", "collect", "intake"):
            assert found[key(f"{name}_seconds_count", endpoint="/square")] == 5
            buckets = [
                value
                for (sample, labels), value in found.items()
                if sample == f"cubbyhole_{name}_seconds_bucket"
                and ("endpoint", "/square") in labels
            ]
            assert buckets == sorted(buckets)
            assert buckets[-1] == 5
        parts = [found[key(f"{n}_seconds_sum", endpoint="/square")] for n in ("queue", "execute")]
        assert 0 < sum(parts) <= found[key("request_seconds_sum", endpoint="/square")]
        assert found[key("outcomes_total", endpoint="/square", outcome="answered")] == 5
        assert found[key("request_seconds_count", endpoint="/negate")] == 0


def test_openmetrics_is_given_to_who_asks_for_it() -> None:
    with serving(f"{SERVERS}:Square") as server:
        ask(server, input=2)
        wanted = "application/openmetrics-text; version=1.0.0"
        answer = requests.get(f"{server.url}/metrics", headers={"Accept": wanted}, timeout=10)
        assert answer.headers["content-type"].startswith(wanted)
        families = list(
            openmetrics_parser.text_string_to_metric_families(answer.text)  # type: ignore[no-untyped-call]
        )
        assert {"cubbyhole_request_seconds", "cubbyhole_rejections"} <= {f.name for f in families}


def test_no_count_is_lost_with_the_process_that_made_it() -> None:
    """A front and a worker are killed; whoever answers next still knows all that they did."""
    with (
        serving(f"{SERVERS}:Square", arguments=["--fronts", "2"]) as server,
        attach(server.pid) as seen,
    ):
        with ThreadPoolExecutor(4) as pool:  # connections are spread over the fronts
            assert set(pool.map(lambda n: ask(server, input=n), range(40))) == {200}
        counted = key("request_seconds_count", endpoint="/predict")
        before = samples(server.url)
        assert before[counted] == 40
        for cell in (0, 1, seen.roster.worker_cell(0)):
            former = seen.roster.pid(cell)
            os.kill(former, signal.SIGKILL)
            poll_until(
                lambda cell=cell, former=former: (
                    seen.roster.pid(cell) != former  # type: ignore[misc]
                    and seen.roster.state(cell).name == "READY"
                )
            )
        poll_until(lambda: requests.get(f"{server.url}/health", timeout=5).status_code == 200)
        after = samples(server.url)
        totals = {
            sample
            for sample in before
            if sample[0].endswith(("_total", "_count", "_bucket", "_sum"))
        }
        assert {
            sample: (before[sample], after[sample])
            for sample in totals
            if after[sample] < before[sample]
        } == {}
        ask(server, input=1)
        assert samples(server.url)[counted] == 41


def test_what_is_refused_is_counted_by_reason() -> None:
    with serving(f"{SERVERS}:narrow") as server:
        assert ask(server, input=0, filling="x" * 2000) == 413
        bad = requests.post(
            f"{server.url}/predict",
            json={"input": 1},
            headers={"X-Request-Timeout": "soon"},
            timeout=20,
        )
        assert bad.status_code == 400
        with ThreadPoolExecutor(8) as pool:
            statuses = list(pool.map(lambda _: ask(server, input=1, sleep_s=0.5), range(8)))
        found = samples(server.url)
        assert statuses.count(503) > 0
        assert found[key("rejections_total", reason="queue_full")] == statuses.count(503)
        assert found[key("rejections_total", reason="too_large")] == 1
        assert found[key("rejections_total", reason="bad_header")] == 1


def test_a_missing_and_a_wrong_key_are_counted() -> None:
    keys = {"LIT_SERVER_API_KEY": "right"}
    # Not `ready`: that asks /health, which takes the key, too.
    with serving(f"{SERVERS}:Square", environment=keys, ready=False) as server:
        assert ask(server, input=1) == 401
        for wrong in ({"X-API-Key": "wrong"}, {"X-API-Key": "right"}):
            requests.post(f"{server.url}/predict", json={"input": 1}, headers=wrong, timeout=20)
        assert requests.get(f"{server.url}/info", timeout=20).status_code == 401  # FastAPI's way
        with attach(server.pid) as seen:
            found = seen.roster.rejections()
        assert (found["not_authenticated"], found["wrong_api_key"]) == (2, 1)


@pytest.mark.parametrize("path", ["/batch"])
def test_batches_are_counted(path: str) -> None:
    with serving(f"{SERVERS}:all_kinds") as server:
        with ThreadPoolExecutor(4) as pool:
            answers = list(
                pool.map(
                    lambda n: requests.post(
                        f"{server.url}{path}", json={"input": n}, timeout=20
                    ).json(),
                    range(8),
                )
            )
        found = samples(server.url)
        assert found[key("batch_size_sum", endpoint=path)] == 8
        assert found[key("batch_size_count", endpoint=path)] == sum(1 / a["size"] for a in answers)
        assert found[key("batch_wait_seconds_count", endpoint=path)] > 0
