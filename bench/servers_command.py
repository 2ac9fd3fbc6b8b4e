# SPDX-License-Identifier: Apache-2.0
"""`python -m bench servers`: whole servers under load, interleaved, every answer checked.

In each repetition every contender has its turn at every workload before the next repetition begins, and the order of
contenders is rotated, so that a slow minute of the machine hits all of them. Medians over the repetitions.

Flow:  __main__.py -> **servers_command.py** -> contenders.py (start, load, end) -> tables.py, plots.py, results/*.json
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import machine, plots, tables, targets
from bench.contenders import CONTENDERS, DEFAULT, WORKLOADS, Contender, Serving, Workload
from bench.venvs import ROOT, ensure, versions

if TYPE_CHECKING:
    import argparse

_START_GUESS_S = 2.5  # of a server with its end, for the time left


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--quick", action="store_true", help="1 s a run, one repetition: a look, not a figure"
    )
    parser.add_argument(
        "--only",
        default=",".join(DEFAULT),
        metavar="A,B",
        help=f"contenders: {', '.join(CONTENDERS)} (default: %(default)s)",
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
        default=3.0,
        metavar="S",
        help="measured seconds of each run (default: %(default)s)",
    )
    parser.add_argument(
        "--warmup",
        type=float,
        default=0.7,
        metavar="S",
        help="seconds of load before that (default: %(default)s)",
    )
    parser.add_argument(
        "--name", default="servers", help="bench/results/NAME.json and .svg (default: %(default)s)"
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
    if arguments.quick:
        arguments.seconds, arguments.repeat, arguments.warmup = 1.0, 1, 0.4
        arguments.name = (
            f"{arguments.name}-quick" if arguments.name == "servers" else arguments.name
        )
    contenders: list[Contender] = _chosen(arguments.only, CONTENDERS, "contender")
    workloads: list[Workload] = _chosen(arguments.workloads, WORKLOADS, "workload")
    pythons: dict[str, Path] = {}
    for contender in contenders:
        ours = contender.venv == "cubbyhole" and arguments.in_place
        pythons[contender.venv] = Path(sys.executable) if ours else ensure(contender.venv)
    if arguments.in_place:
        import os

        os.environ["PYTHONPATH"] = str(ROOT / "src")
    settings = {
        "seconds": arguments.seconds,
        "warmup_s": arguments.warmup,
        "repeat": arguments.repeat,
        "contenders": [c.name for c in contenders],
        "workloads": [w.name for w in workloads],
    }
    result = {"kind": "servers", "name": arguments.name, **machine.record(settings)}
    result["versions"] = {
        name: versions(name) for name in pythons if not (arguments.in_place and name == "cubbyhole")
    }
    runs = measure(contenders, workloads, pythons, arguments)
    result["runs"] = runs
    result["summary"] = tables.summarize(runs)
    result["targets"] = targets.judge(targets.SERVERS, result["summary"])
    path = machine.save(result, arguments.name)
    plot = path.with_suffix(".svg")
    plot.write_text(plots.servers(result))
    print(report(result))
    print(f"\n{path.relative_to(ROOT)} and {plot.name} written.")
    others = sorted(r["others_cores"] for r in runs if "others_cores" in r)
    if others:
        print(
            f"Other processes used {others[len(others) // 2]:.2f} cores meanwhile (median; most {others[-1]:.2f}). "
            "Above about 0.1 the req/s are no figures; CPU per request still is."
        )
    return 1 if any(r["failures"] for r in runs) else 0


def measure(
    contenders: list[Contender],
    workloads: list[Workload],
    pythons: dict[str, Path],
    arguments: argparse.Namespace,
) -> list[dict[str, Any]]:
    servers = list(dict.fromkeys(w.server for w in workloads))
    per_round = sum(
        arguments.seconds + arguments.warmup + 0.5 for _ in workloads
    ) + _START_GUESS_S * len(servers)
    total = arguments.repeat * len(contenders) * len(servers)
    begun, done = time.monotonic(), 0
    runs: list[dict[str, Any]] = []
    for repeat in range(arguments.repeat):
        for server in servers:
            for turn in range(len(contenders)):
                contender = contenders[(turn + repeat) % len(contenders)]
                spent = time.monotonic() - begun
                guess = per_round * arguments.repeat * len(contenders)
                left = spent / done * (total - done) if done else guess
                print(
                    f"\rbench: {done}/{total}  {contender.name:<18}{server:<8} about {left / 60:.1f} min left   ",
                    end="",
                    file=sys.stderr,
                    flush=True,
                )
                asked = [w for w in workloads if w.server == server]
                runs += _turn(contender, asked, repeat, pythons[contender.venv], arguments)
                done += 1
    print(file=sys.stderr)
    return runs


def _turn(
    contender: Contender,
    workloads: list[Workload],
    repeat: int,
    python: Path,
    arguments: argparse.Namespace,
) -> list[dict[str, Any]]:
    """Start one contender once, run the workloads of that server on it."""
    about = {"contender": contender.name, "repeat": repeat}
    runs: list[dict[str, Any]] = []
    try:
        with Serving(contender, workloads[0].server, python) as serving:
            if workloads[0].server == "noop":
                runs.append(
                    {**about, "workload": "start", "failures": 0, "start_s": serving.start_s}
                )
            for workload in workloads:
                figures = serving.load(workload, arguments.seconds, arguments.warmup)
                runs.append({**about, "workload": workload.name, **figures})
    except (RuntimeError, OSError) as error:
        runs.append(
            {
                **about,
                "workload": workloads[0].name,
                "failures": 1,
                "requests": 0,
                "example": str(error)[-600:],
            }
        )
    return runs


_FIGURES = [
    ("requests_per_s", "req/s"),
    ("of_ideal", "of ideal"),
    ("chunks_per_s", "chunks/s"),
    ("first_chunk_p50_ms", "first chunk p50 ms"),
    ("p50_ms", "p50 ms"),
    ("p99_ms", "p99 ms"),
    ("server_cpu_ms", "CPU ms/req"),
    ("client_cpu_ms", "client CPU ms"),
    ("pss_mib", "PSS MiB"),
    ("idle_percent", "% of a core"),
    ("start_s", "s"),
]
_TITLES = {"start": "start to the first right answer"} | {
    w.name: w.title for w in WORKLOADS.values()
}


def report(result: dict[str, Any], *, markdown: bool = False) -> str:
    """Write all tables of a result: each workload with the ratio to ours, then the targets."""
    parts, bold = [], "### " if markdown else ""
    summary = result["summary"]
    for workload, title in _TITLES.items():
        measured = summary.get(workload)
        if not measured:
            continue
        names = [n for n in result["settings"]["contenders"] if n in measured]
        shown = [f for f in _FIGURES if any(f[0] in measured[n] for n in names)]
        against = shown[0]
        ours = measured.get(targets.US, {}).get(against[0], {}).get("median")
        head = ["", *(label for _, label in shown), "ours is"]
        rows = []
        for name in names:
            cells = [tables.cell(measured[name].get(key)) for key, _ in shown]
            theirs = measured[name].get(against[0], {}).get("median")
            ratio = f"{ours / theirs:.2f}x" if ours and theirs and name != targets.US else ""
            rows.append([name, *cells, ratio])
        parts.append(f"{bold}{title}\n\n" + tables.grid(head, rows, markdown=markdown))
    if result["targets"]:
        parts.append(
            f"{bold}targets\n\n" + tables.verdict_table(result["targets"], markdown=markdown)
        )
    told = tables.failures(result["runs"])
    if told:
        parts.append(f"{bold}Failed\n\n" + told)
    return "\n\n".join(parts)
