# SPDX-License-Identifier: Apache-2.0
"""`python -m bench channels`: what carries requests between processes, each channel in the same run.

What is run, and in which order, is `cubbyhole.measuring.channels`, as for `cubbyhole bench channels`; here the result gets its
machine, its commit, its targets and its plot.

Flow:  __main__.py -> **channels_command.py** -> cubbyhole.measuring.channels -> targets.py, plots.py, results/*.json
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import machine, plots, tables, targets
from bench.venvs import ROOT, ensure, versions
from cubbyhole.measuring import channels
from cubbyhole.measuring.channels import KINDS, WORKLOADS
from cubbyhole.measuring.jobs import Place

if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--quick", action="store_true", help="0.5 s a run, one repetition: a look, not a figure"
    )
    parser.add_argument(
        "--only", default=",".join(KINDS), metavar="A,B", help="channels (default: %(default)s)"
    )
    parser.add_argument(
        "--workloads", default=",".join(WORKLOADS), metavar="A,B", help="default: all (%(default)s)"
    )
    parser.add_argument(
        "--repeat", type=int, default=3, metavar="N", help="repetitions (default: %(default)s)"
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=2.0,
        metavar="S",
        help="measured seconds of each run (default: %(default)s)",
    )
    parser.add_argument(
        "--name", default="channels", help="bench/results/NAME.json and .svg (default: %(default)s)"
    )
    parser.add_argument(
        "--in-place",
        action="store_true",
        help="cubbyhole from src/ with this python, not installed",
    )


def run(arguments: argparse.Namespace) -> int:
    if arguments.quick:
        arguments.seconds, arguments.repeat = 0.5, 1
        arguments.name = "channels-quick" if arguments.name == "channels" else arguments.name
    names = [n for n in arguments.workloads.split(",") if n]
    unknown = [n for n in names if n not in WORKLOADS]
    if unknown:
        raise SystemExit(
            f"bench: no workload {', '.join(unknown)}. There are: {', '.join(WORKLOADS)}."
        )
    place = place_of(in_place=arguments.in_place)
    kinds = loadable(arguments.only, place)
    settings = {
        "seconds": arguments.seconds,
        "repeat": arguments.repeat,
        "channels": kinds,
        "workloads": names,
    }
    result = {"kind": "channels", "name": arguments.name, **machine.record(settings)}
    result["versions"] = {} if arguments.in_place else {"cubbyhole": versions("cubbyhole")}
    result["runs"] = runs = channels.measure(
        kinds, names, place, show, seconds=arguments.seconds, repeat=arguments.repeat
    )
    print(file=sys.stderr)
    result["summary"] = tables.summarize(runs)
    result["targets"] = targets.judge(targets.CHANNELS, result["summary"])
    path = machine.save(result, arguments.name)
    path.with_suffix(".svg").write_text(plots.channels(result))
    print(report(result))
    print(f"\n{path.relative_to(ROOT)} and {path.stem}.svg written.")
    return 1 if any(r["failures"] for r in runs) else 0


def show(what: str, done: int, total: int, left_s: float) -> None:
    """Say on one line how far a measurement is."""
    text = f"\rbench: {done}/{total}  {what} about {left_s / 60:.1f} min left   "
    print(text, end="", file=sys.stderr, flush=True)


def loadable(only: str, place: Place) -> list[str]:
    """Return the channels that were asked for and can be made; say why the others cannot."""
    asked = [kind for kind in only.split(",") if kind]
    kinds = channels.loadable(asked, place, lambda t: print(f"bench: {t}", file=sys.stderr))
    if not kinds:
        raise SystemExit("bench: no channel can be loaded.")
    return kinds


def place_of(*, in_place: bool, venv: str = "cubbyhole") -> Place:
    """Return where measured processes run: an environment of their own; in place: this python, `src/` before what is installed."""
    path = {"PYTHONPATH": str(ROOT / "src")} if in_place else {}
    python = Path(sys.executable) if in_place else ensure(venv)
    return Place(str(python), {**os.environ, **path}, str(ROOT))


def report(result: dict[str, Any], *, markdown: bool = False) -> str:
    """Write all tables of a result, and its targets."""
    parts = channels.report(result, markdown=markdown)
    if result["targets"]:
        title = "### targets" if markdown else "targets"
        parts.append(f"{title}\n\n" + tables.verdict_table(result["targets"], markdown=markdown))
    return "\n\n".join(parts)
