# SPDX-License-Identifier: Apache-2.0
"""`python -m bench compare OLD NEW`: two result files of the same kind side by side, with ratios of their medians."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import tables
from bench.machine import RESULTS
from bench.venvs import HOME

if TYPE_CHECKING:
    import argparse

# figures worth a line, and whether more is better
FIGURES = {
    "requests_per_s": True,
    "round_trips_per_s": True,
    "chunks_per_s": True,
    "p50_ms": False,
    "p99_ms": False,
    "p50_us": False,
    "server_cpu_ms": False,
    "cpu_us": False,
    "pss_mib": False,
    "idle_percent": False,
    "start_s": False,
    "look_us": False,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("old", help="a result file, or its name in bench/results/")
    parser.add_argument("new", help="another of the same kind")
    parser.add_argument(
        "--only", default="", metavar="A,B", help="contenders (default: all in both)"
    )
    parser.add_argument(
        "--threshold",
        type=float,
        default=0.10,
        metavar="X",
        help="mark what got worse or better by more than this share (default: %(default)s)",
    )


def _read(name: str) -> dict[str, Any]:
    places = [Path(name), RESULTS / f"{name}.json", HOME / "results" / f"{name}.json"]
    path = next((place for place in places if place.is_file()), places[1])
    if not path.is_file():
        raise SystemExit(f"bench: there is no result file {name} (looked at {path} too).")
    result: dict[str, Any] = json.loads(path.read_text())
    return result


def compare(
    old: dict[str, Any], new: dict[str, Any], only: set[str], threshold: float
) -> list[list[str]]:
    """Return rows: workload, contender, figure, old, new, ratio, mark."""
    rows = []
    for workload, contenders in new["summary"].items():
        for contender, figures in contenders.items():
            before = old["summary"].get(workload, {}).get(contender)
            if before is None or (only and contender not in only):
                continue
            for figure, more_is_better in FIGURES.items():
                a, b = before.get(figure), figures.get(figure)
                if not a or not b or not a["median"]:
                    continue
                ratio = b["median"] / a["median"]
                gain = ratio - 1 if more_is_better else 1 - ratio
                mark = "" if abs(gain) <= threshold else ("better" if gain > 0 else "WORSE")
                cells = [tables.cell(a), tables.cell(b), f"{ratio:.2f}x", mark]
                rows.append([workload, contender, figure, *cells])
    return rows


def run(arguments: argparse.Namespace) -> int:
    old, new = _read(arguments.old), _read(arguments.new)
    if old["kind"] != new["kind"]:
        raise SystemExit(f"bench: {old['kind']} cannot be compared with {new['kind']}.")
    only = {name for name in arguments.only.split(",") if name}
    rows = compare(old, new, only, arguments.threshold)
    print(f"old: {old['commit'][:8]} of {old['at']}, {old['command']}")
    print(f"new: {new['commit'][:8]} of {new['at']}, {new['command']}\n")
    head = ["workload", "", "figure", "old", "new", "new/old", ""]
    print(tables.grid(head, rows))
    return 0
