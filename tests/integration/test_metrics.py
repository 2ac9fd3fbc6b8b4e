# SPDX-License-Identifier: Apache-2.0
"""`/metrics` of real servers, read with the official parser."""

from __future__ import annotations

from pathlib import Path

import requests
from prometheus_client.parser import text_string_to_metric_families

from cubbyhole.testing.serving import serving

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
