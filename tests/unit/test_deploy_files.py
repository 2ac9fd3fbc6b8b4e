# SPDX-License-Identifier: Apache-2.0
"""Dashboard, alerts and scaling rules ask for metrics that there are."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.unit.test_metrics_documented import families

if TYPE_CHECKING:
    from collections.abc import Iterator

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
FILES = sorted(path for path in DEPLOY.rglob("*") if path.suffix in (".json", ".yaml", ".yml"))
MADE_BY_THE_ADAPTER = {"cubbyhole_requests_under_way"}  # a name of its own for a sum of ours
HISTOGRAM_PART = re.compile(r"_(bucket|sum|count)$")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(DEPLOY)))
def test_every_metric_that_is_asked_for_exists(path: Path) -> None:
    known = set(families())
    asked = set(re.findall(r"cubbyhole_\w+", path.read_text())) - MADE_BY_THE_ADAPTER
    assert {
        name for name in asked if name not in known and HISTOGRAM_PART.sub("", name) not in known
    } == set()


def test_each_panel_says_what_it_shows_and_has_its_place() -> None:
    panels = json.loads((DEPLOY / "grafana" / "cubbyhole.json").read_text())["panels"]
    assert all(panel["description"] and panel["targets"] for panel in panels)
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels]
    assert len(set(places)) == len(panels)
    assert len({panel["id"] for panel in panels}) == len(panels)


def test_the_dashboard_shows_every_histogram() -> None:
    text = (DEPLOY / "grafana" / "cubbyhole.json").read_text()
    histograms = {
        name for name in families() if name.endswith(("_seconds", "_size", "_size_bytes"))
    }
    histograms -= {"cubbyhole_oldest_request_age_seconds", "cubbyhole_heartbeat_age_seconds"}
    assert {
        name for name in histograms if f"{name}_bucket" not in text and f"{name}_sum" not in text
    } == set()


def test_grafanas_own_library_reads_the_dashboard_and_loses_nothing() -> None:
    """No Grafana has opened it here; this is as near as its makers' model of a dashboard comes."""
    dashboards = pytest.importorskip(
        "grafana_foundation_sdk.models.dashboard",
        reason="needs: pip install grafana-foundation-sdk",
    )
    plugins = pytest.importorskip("grafana_foundation_sdk.cog.plugins")
    encoder = pytest.importorskip("grafana_foundation_sdk.cog.encoder")
    plugins.register_default_plugins()
    ours = json.loads((DEPLOY / "grafana" / "cubbyhole.json").read_text())
    theirs = json.loads(encoder.JSONEncoder().encode(dashboards.Dashboard.from_json(ours)))
    assert list(lost(ours, theirs)) == []


def lost(ours: object, theirs: object, where: str = "") -> Iterator[str]:
    """What is in ours, and not or otherwise in theirs, which may have more."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for name, value in ours.items():
            if name in theirs:
                yield from lost(value, theirs[name], f"{where}.{name}")
            else:
                yield f"{where}.{name}"
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for number, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            yield from lost(one, other, f"{where}[{number}]")
    elif ours != theirs:
        yield f"{where}: {ours!r}, not {theirs!r}"
