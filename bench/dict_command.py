# SPDX-License-Identifier: Apache-2.0
"""`python -m bench dict`: `SharedDict` beside other dictionaries that processes share, each store in its own process.

Set and get by size (the get in another process, every value checked), four processes on their own keys and on one key, and
a writer killed at a random moment: can the others go on, and is what they read whole?

Flow:  __main__.py -> **dict_command.py** -> dict_run.py (one process for each store and question) -> results/*.json
"""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

from bench import machine, plots, tables
from bench.channels_command import place_of
from bench.dict_stores import STORES
from bench.venvs import ROOT, versions
from cubbyhole.measuring.jobs import job_in_process

if TYPE_CHECKING:
    import argparse

SIZES = [64, 4096, 65536, 1 << 20, 16 << 20]
QUESTIONS = {
    "sizes": "set, and get in another process, by size (median us)",
    "contention": "four processes set and get 1 KiB",
    "death": "a writer of 1 MiB values is killed at a random moment",
}
OURS = "SharedDict"
_LABELS = {
    "set_us": "set us",
    "get_us": "get us",
    "pairs_per_s": "set+get/s",
    "least_per_s": "the slowest process",
    "lost_writers": "writers lost",
    "rounds": "kills",
    "stuck": "others cannot go on",
    "torn_or_lost": "value torn or lost",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--quick", action="store_true", help="one repetition, short: a look")
    parser.add_argument("--only", default=",".join(STORES), metavar="A,B", help="%(default)s")
    parser.add_argument("--repeat", type=int, default=3, metavar="N", help="default: %(default)s")
    parser.add_argument("--kills", type=int, default=20, metavar="N", help="default: %(default)s")
    parser.add_argument("--seconds", type=float, default=0.5, metavar="S", help="of each size")
    parser.add_argument("--name", default="dict", help="bench/results/NAME.json")
    parser.add_argument(
        "--in-place", action="store_true", help="cubbyhole from src/, not installed"
    )


def run(arguments: argparse.Namespace) -> int:
    if arguments.quick:
        arguments.repeat, arguments.kills, arguments.seconds = 1, 5, 0.2
        arguments.name = "dict-quick" if arguments.name == "dict" else arguments.name
    names = [name for name in arguments.only.split(",") if name]
    unknown = [name for name in names if name not in STORES]
    if unknown:
        raise SystemExit(f"bench: no store {', '.join(unknown)}. There are: {', '.join(STORES)}.")
    peers = Peers(names, in_place=arguments.in_place)
    settings = {"repeat": arguments.repeat, "kills": arguments.kills, "seconds": arguments.seconds}
    result = {"kind": "dict", "name": arguments.name}
    result |= machine.record({**settings, "stores": peers.names, "sizes": SIZES})
    result["versions"] = {"dicts": versions("dicts")}
    result["left_out"] = peers.left_out
    runs: list[dict[str, Any]] = []
    turns = [(r, q) for r in range(arguments.repeat) for q in QUESTIONS if r == 0 or q != "death"]
    for number, (repeat, question) in enumerate(turns):
        print(f"bench: {number}/{len(turns)}  {question}", file=sys.stderr)
        runs += peers.ask(question, repeat, seconds=arguments.seconds, kills=arguments.kills)
    result["runs"] = runs
    result["summary"] = tables.summarize(runs)
    path = machine.save(result, arguments.name)
    path.with_suffix(".svg").write_text(plots.dictionaries(result))
    print(report(result))
    print(f"\n{path.relative_to(ROOT)} and {path.stem}.svg written.")
    return 1 if any(r["failures"] for r in runs if r["contender"] == OURS) else 0


class Peers:
    """The stores that are there, and those that are not, with the reason."""

    def __init__(self, names: list[str], *, in_place: bool) -> None:
        self._ours = place_of(in_place=in_place)
        self._theirs = place_of(in_place=False, venv="dicts")
        lacking = {name: STORES[name].lacks() or self._missing(name) for name in names}
        self.names = [name for name in names if not lacking[name]]
        self.left_out = [f"{name}: {why}" for name, why in lacking.items() if why]
        for text in self.left_out:
            print(f"bench: left out: {text}", file=sys.stderr)

    def _missing(self, name: str) -> str:
        """Return why a store's package cannot be imported in its environment; empty if it can."""
        package = STORES[name].package
        if not package:
            return ""
        command = [self._theirs.python, "-c", f"import {package}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        return last if done.returncode else ""

    def ask(
        self, question: str, repeat: int, *, seconds: float, kills: int
    ) -> list[dict[str, Any]]:
        """Put one question to every store; the order rotates. Values of each size have a store of their own, made to fit."""
        runs: list[dict[str, Any]] = []
        fits = [[size] for size in SIZES] if question == "sizes" else [[1024]]
        for sizes in fits:
            for place in range(len(self.names)):
                name = self.names[(place + repeat) % len(self.names)]
                job = {
                    "store": name,
                    "what": question,
                    "sizes": sizes,
                    "seconds": seconds,
                    "rounds": kills,
                    "seed": 1 + repeat,
                }
                where = self._ours if name == OURS else self._theirs
                limit_s = 120.0 + kills * 12.0
                runs += _records(
                    question, name, repeat, job_in_process("bench.dict_run", job, limit_s, where)
                )
        return runs


def _records(question: str, name: str, repeat: int, answer: Any) -> list[dict[str, Any]]:
    about = {"contender": name, "repeat": repeat}
    if isinstance(answer, dict):  # the process failed
        return [{**about, "workload": question, **answer}]
    return [
        {
            **about,
            "workload": f"{question}:{record['case']}",
            "failures": int("refused" in record),
            "example": record.get("refused", ""),
            **record,
        }
        for record in answer
    ]


def report(result: dict[str, Any], *, markdown: bool = False) -> str:
    """Write one table for each question."""
    parts, bold = [], "### " if markdown else ""
    summary = result["summary"]
    for question, title in QUESTIONS.items():
        cases = [name for name in summary if name.partition(":")[0] == question]
        labels = [f for f in _LABELS if any(f in c for n in cases for c in summary[n].values())]
        rows = []
        for case in cases:
            for name in result["settings"]["stores"]:
                figures = summary[case].get(name)
                if figures:
                    cells = [tables.cell(figures.get(label)) for label in labels]
                    rows.append([case.partition(":")[2], name, *cells])
        if rows:
            head = ["case", "store", *(_LABELS[label] for label in labels)]
            parts.append(f"{bold}{title}\n\n" + tables.grid(head, rows, markdown=markdown))
    told = tables.failures(result["runs"])
    if result.get("left_out"):
        parts.append("Not available here: " + "; ".join(result["left_out"]) + ".")
    if told:
        parts.append(f"{bold}Failed\n\n" + told)
    return "\n\n".join(parts)
