# SPDX-License-Identifier: Apache-2.0
"""A real Prometheus scrapes a real server, and answers every query of the dashboard, the alerts and the scaling rules."""

from __future__ import annotations

import json
import math
import re
import shutil
import socket
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests
from tests.conftest import poll_until

from cubbyhole.testing.serving import Served, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

yaml = pytest.importorskip("yaml")
SERVERS = Path(__file__).with_name("servers.py")
DEPLOY = Path(__file__).resolve().parents[2] / "deploy"

THRESHOLD = re.compile(r"\s*>\s*[\d.]+\s*$")
QUANTILE = (
    "histogram_quantile(0.95, sum by (le, endpoint) (rate(cubbyhole_request_seconds_bucket[30s])))"
)

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
    for rule in alerts["groups"][0]["rules"]:  # without its threshold, which nothing here reaches
        found[f"alert {rule['alert']}"] = THRESHOLD.sub("", rule["expr"])
    keda = yaml.safe_load((DEPLOY / "kubernetes" / "keda-scaledobject.yaml").read_text())
    for number, trigger in enumerate(keda["spec"]["triggers"]):
        labels = '{namespace="default"}'  # which Kubernetes adds
        found[f"trigger {number}"] = trigger["metadata"]["query"].replace(labels, "")
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


def ask(server: Served) -> None:
    """A request to each path of `all_kinds`, and one that is turned away."""
    requests.post(f"{server.url}/predict", json={"input": 2}, timeout=20)
    requests.post(f"{server.url}/batch", json={"input": 2}, timeout=20)
    requests.post(f"{server.url}/stream", json={"input": 2}, timeout=20)


def numbers(address: str, expression: str) -> list[float]:
    """The finite values of an expression; a quantile of nothing is NaN."""
    values = (float(one["value"][1]) for one in query(address, expression))
    return [value for value in values if math.isfinite(value)]


def test_every_panel_alert_and_trigger_has_numbers_from_a_server_under_load(tmp_path: Path) -> None:
    with (
        serving(f"{SERVERS}:all_kinds") as server,
        prometheus(tmp_path, server.url.removeprefix("http://")) as address,
    ):
        poll_until(lambda: is_up(address), timeout_s=60)
        wanted = expressions()

        def silent() -> dict[str, str]:
            ask(server)
            return {
                where: expression
                for where, expression in wanted.items()
                if not numbers(address, expression)
            }

        poll_until(lambda: not silent(), timeout_s=80, every_s=0.05)
        depths = {one["metric"]["endpoint"] for one in query(address, "cubbyhole_queue_depth")}
        assert depths == {"/predict", "/batch", "/stream"}
        p95 = numbers(address, QUANTILE)
        assert p95
        assert all(0 < value < 100 for value in p95)
        rules = requests.get(f"{address}/api/v1/rules", timeout=10).json()["data"]["groups"]
        assert [rule["health"] for rule in rules[0]["rules"] if rule["health"] == "err"] == []


def test_promtool_finds_nothing_to_say_of_our_rules_and_configuration() -> None:
    for what, name in (("rules", "alerts.yml"), ("config", "prometheus.yml")):
        done = subprocess.run(
            ["promtool", "check", what, str(DEPLOY / "prometheus" / name)],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_finds_nothing_to_say_of_our_metrics() -> None:
    with serving(f"{SERVERS}:all_kinds") as server:
        ask(server)
        text = requests.get(f"{server.url}/metrics", timeout=10).text
    assert "cubbyhole_first_chunk_seconds_bucket" in text
    done = subprocess.run(
        ["promtool", "check", "metrics"],
        input=text,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
