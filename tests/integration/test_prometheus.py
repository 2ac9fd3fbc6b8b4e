# SPDX-License-Identifier: Apache-2.0
"""A real Prometheus scrapes a real server, and answers every query of the dashboard, the alerts and the scaling rules."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests
from tests.conftest import poll_until

from cubbyhole.testing.serving import serving

if TYPE_CHECKING:
    from collections.abc import Iterator

yaml = pytest.importorskip("yaml")
SERVERS = Path(__file__).with_name("servers.py")
DEPLOY = Path(__file__).resolve().parents[2] / "deploy"

pytestmark = [
    pytest.mark.skipif(
        shutil.which("prometheus") is None,
        reason="prometheus is not installed (Debian: apt install prometheus)",
    ),
    pytest.mark.timeout(120),
]


def expressions() -> dict[str, str]:
    """Every PromQL expression that we ship, by where it stands."""
    found = {}
    for panel in json.loads((DEPLOY / "grafana" / "cubbyhole.json").read_text())["panels"]:
        for target in panel["targets"]:
            text = target["expr"].replace("$__rate_interval", "30s")
            for variable in ("$instance", "$endpoint"):
                text = text.replace(variable, ".*")
            found[f"panel {panel['title']}, {target['refId']}"] = text
    alerts = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())
    for rule in alerts["groups"][0]["rules"]:
        found[f"alert {rule['alert']}"] = rule["expr"]
    keda = yaml.safe_load((DEPLOY / "kubernetes" / "keda-scaledobject.yaml").read_text())
    for number, trigger in enumerate(keda["spec"]["triggers"]):
        found[f"trigger {number}"] = trigger["metadata"]["query"]
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def prometheus(folder: Path, target: str) -> Iterator[str]:
    """Run Prometheus on a loopback port; gives the address of its HTTP interface."""
    configuration = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    configuration["global"]["scrape_interval"] = "500ms"
    configuration["scrape_configs"][0]["static_configs"] = [{"targets": [target]}]
    shutil.copy(DEPLOY / "prometheus" / "alerts.yml", folder)
    (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration))
    address = f"127.0.0.1:{free_port()}"
    log = folder / "log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={folder}/prometheus.yml",
                f"--storage.tsdb.path={folder}/data",
                f"--web.listen-address={address}",
            ],
            stdout=output,
            stderr=output,
        )
    try:
        yield f"http://{address}"
    finally:
        process.terminate()
        process.wait(30)


def query(address: str, expression: str) -> list[dict[str, Any]]:
    answer = requests.get(f"{address}/api/v1/query", params={"query": expression}, timeout=10)
    found = answer.json()
    assert found["status"] == "success", (expression, found)
    result: list[dict[str, Any]] = found["data"]["result"]
    return result


def is_up(address: str) -> bool:
    try:
        return [one["value"][1] for one in query(address, "up")] == ["1"]
    except (
        requests.RequestException
    ):  # it does not listen yet, or answers "not ready" in plain text
        return False


def test_prometheus_scrapes_a_server_and_answers_all_that_we_ask(tmp_path: Path) -> None:
    with (
        serving(f"{SERVERS}:Square") as server,
        prometheus(tmp_path, server.url.removeprefix("http://")) as address,
    ):

        def p95() -> float:
            """The 95 % quantile of the request's time, by Prometheus, of two scrapes at least."""
            requests.post(f"{server.url}/predict", json={"input": 1}, timeout=20)
            text = "histogram_quantile(0.95, sum by (le) (rate(cubbyhole_request_seconds_bucket[30s])))"
            values = [float(one["value"][1]) for one in query(address, text)]
            return values[0] if values and values[0] > 0 else 0.0

        poll_until(lambda: is_up(address), timeout_s=60)
        assert 0 < poll_until(p95, timeout_s=60, every_s=0.05) < 100
        for where, expression in expressions().items():
            assert isinstance(query(address, expression), list), where
        (depth,) = query(address, "cubbyhole_queue_depth")
        assert depth["metric"]["endpoint"] == "/predict"
        rules = requests.get(f"{address}/api/v1/rules", timeout=10).json()["data"]["groups"]
        assert [rule["health"] for rule in rules[0]["rules"] if rule["health"] == "err"] == []
