# SPDX-License-Identifier: Apache-2.0
"""`python -m bench faults`: the same faults on several servers; what the clients saw, and after how long.

No figure here is about milliseconds, so a busy machine does little harm; its load average is in the result.

Flow:  __main__.py -> **faults_command.py** -> contenders.py (start, end) -> faults_run.py -> results/faults.json
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import machine, tables
from bench.contenders import Contender, Serving
from bench.faults_run import FAULTS, Fault
from bench.venvs import ROOT, ensure, versions

if TYPE_CHECKING:
    import argparse

CONTENDERS = {
    c.name: c
    for c in (
        Contender("cubbyhole", "cubbyhole", "faults_cubbyhole.py"),
        Contender("litserve", "litserve", "faults_litserve.py"),
        Contender("mosec", "mosec", "faults_mosec.py", "/inference"),
    )
}


class FaultyServing(Serving):
    """A server whose first 200 is enough: what it answers is looked at by the faults."""

    @staticmethod
    def _first_right(question: Any, answer: bytes) -> bool:  # noqa: ARG004
        return True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--only",
        default=",".join(CONTENDERS),
        metavar="A,B",
        help="contenders (default: %(default)s)",
    )
    parser.add_argument(
        "--faults", default=",".join(FAULTS), metavar="A,B", help="default: all (%(default)s)"
    )
    parser.add_argument(
        "--name", default="faults", help="bench/results/NAME.json (default: %(default)s)"
    )
    parser.add_argument(
        "--in-place",
        action="store_true",
        help="cubbyhole from src/ with this python, not installed",
    )


def _chosen(text: str, table: dict[str, Any], what: str) -> list[Any]:
    names = [name for name in text.split(",") if name]
    unknown = [name for name in names if name not in table]
    if unknown:
        raise SystemExit(f"bench: no {what} {', '.join(unknown)}. There are: {', '.join(table)}.")
    return [table[name] for name in names]


def run(arguments: argparse.Namespace) -> int:
    contenders: list[Contender] = _chosen(arguments.only, CONTENDERS, "contender")
    faults: list[Fault] = _chosen(arguments.faults, FAULTS, "fault")
    pythons: dict[str, Path] = {}
    for contender in contenders:
        ours = contender.venv == "cubbyhole" and arguments.in_place
        pythons[contender.venv] = Path(sys.executable) if ours else ensure(contender.venv)
    if arguments.in_place:
        os.environ["PYTHONPATH"] = str(ROOT / "src")
    settings = {
        "contenders": [c.name for c in contenders],
        "faults": [f.name for f in faults],
        "repeat": 1,
    }
    result = {"kind": "faults", "name": arguments.name, **machine.record(settings)}
    result["versions"] = {
        name: versions(name) for name in pythons if not (arguments.in_place and name == "cubbyhole")
    }
    result["runs"] = []
    for fault in faults:
        for contender in contenders:
            print(f"bench: {fault.name:<12}{contender.name}", file=sys.stderr, flush=True)
            seen = _run(fault, contender, pythons[contender.venv])
            result["runs"].append({"contender": contender.name, "fault": fault.name, **seen})
    path = machine.save(result, arguments.name)
    print(report(result))
    print(f"\n{path.relative_to(ROOT)} written.")
    return 1 if any(one["failures"] for one in result["runs"]) else 0


def _run(fault: Fault, contender: Contender, python: Path) -> dict[str, Any]:
    try:
        with FaultyServing(contender, fault.server, python) as serving:
            return {"failures": 0, **fault.run(serving)}
    except (RuntimeError, OSError) as error:
        return {"failures": 1, "text": "the run failed", "example": str(error)[-600:]}


def report(result: dict[str, Any], *, markdown: bool = False) -> str:
    """Write a table: a line for each fault, a column for each contender."""
    names = result["settings"]["contenders"]
    told = {(one["fault"], one["contender"]): one["text"] for one in result["runs"]}
    rows = [
        [FAULTS[fault].title, *(told.get((fault, name), "") for name in names)]
        for fault in result["settings"]["faults"]
        if fault in FAULTS
    ]
    return tables.grid(["what happens", *names], rows, markdown=markdown)
