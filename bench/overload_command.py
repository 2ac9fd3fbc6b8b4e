# SPDX-License-Identifier: Apache-2.0
"""`python -m bench overload`: ten times what a server can do.

One worker, a model of 5 ms, a queue of `--queue` requests. First, in a closed loop with as many connections as the queue holds, what
the server can do; so its own queueing bound is known: the last in a full queue waits for as many answers as the queue is long. Then an
open loop at `--times` of that. A server that bounds its queue keeps the 99th percentile of accepted requests near its bound, tells the
others at once, and its memory stays flat. LitServe has no option for such a bound; it is shown with its defaults.

Flow:  __main__.py -> **overload_command.py** -> contenders.py (start), load.py (what it can do), overload_run.py -> results/*.json
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import machine, tables
from bench.contenders import CONTENDERS, Contender, Serving, Workload
from bench.overload_run import GRACE_S, Pace
from bench.processes import memory_mib
from bench.venvs import ROOT, ensure, versions

if TYPE_CHECKING:
    import argparse

NAMES = ("cubbyhole", "mosec", "litserve")
SAMPLE_S = 0.5
WORKLOAD = "overload"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--quick", action="store_true", help="3 s, one repetition: a look")
    parser.add_argument("--only", default=",".join(NAMES), metavar="A,B", help="%(default)s")
    parser.add_argument("--repeat", type=int, default=3, metavar="N", help="(default: %(default)s)")
    parser.add_argument(
        "--seconds",
        type=float,
        default=10.0,
        metavar="S",
        help="of overload (default: %(default)s)",
    )
    parser.add_argument(
        "--times",
        type=float,
        default=10.0,
        metavar="X",
        help="of its capacity (default: %(default)s)",
    )
    parser.add_argument(
        "--queue", type=int, default=20, metavar="N", help="requests (default: %(default)s)"
    )
    parser.add_argument("--name", default="overload", help="bench/results/NAME.json (%(default)s)")
    parser.add_argument(
        "--in-place", action="store_true", help="cubbyhole from src/ with this python"
    )


def run(arguments: argparse.Namespace) -> int:
    if arguments.quick:
        arguments.seconds, arguments.repeat = 3.0, 1
        arguments.name = "overload-quick" if arguments.name == "overload" else arguments.name
    unknown = [name for name in arguments.only.split(",") if name not in CONTENDERS]
    if unknown:
        raise SystemExit(f"bench: no contender {', '.join(unknown)}.")
    contenders = [CONTENDERS[name] for name in arguments.only.split(",")]
    os.environ["BENCH_QUEUE"] = str(arguments.queue)
    if arguments.in_place:
        os.environ["PYTHONPATH"] = str(ROOT / "src")
    pythons = {
        c.venv: Path(sys.executable)
        if c.venv == "cubbyhole" and arguments.in_place
        else ensure(c.venv)
        for c in contenders
    }
    settings = {
        "seconds": arguments.seconds,
        "repeat": arguments.repeat,
        "times": arguments.times,
        "queue": arguments.queue,
        "contenders": [c.name for c in contenders],
    }
    result = {"kind": "overload", "name": arguments.name, **machine.record(settings)}
    result["versions"] = {
        name: versions(name) for name in pythons if not (arguments.in_place and name == "cubbyhole")
    }
    runs: list[dict[str, Any]] = []
    for repeat in range(arguments.repeat):
        for turn in range(len(contenders)):
            contender = contenders[(turn + repeat) % len(contenders)]
            print(f"bench: {contender.name}, repetition {repeat + 1}", file=sys.stderr)
            about = {"contender": contender.name, "workload": WORKLOAD, "repeat": repeat}
            try:
                figures = _one(contender, pythons[contender.venv], arguments)
            except (RuntimeError, OSError) as error:
                figures = {"failures": 1, "example": str(error)[-600:]}
            runs.append({**about, **figures})
    result["runs"] = runs
    result["summary"] = tables.summarize(runs)
    path = machine.save(result, arguments.name)
    print(report(result))
    print(f"\n{path.relative_to(ROOT)} written.")
    return 1 if any(one["failures"] for one in runs) else 0


def _one(contender: Contender, python: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Start a server, see what it can do, and ask it for more."""
    with Serving(contender, WORKLOAD, python) as serving:
        closed = Workload("capacity", WORKLOAD, "json", max(arguments.queue // 2, 1))
        able = serving.load(closed, 2.0, 0.5)
        if able["failures"]:
            return {"failures": 1, "example": f"below its capacity: {able.get('example')}"}
        capacity = float(able["requests_per_s"])
        bound_ms = 1e3 * arguments.queue / capacity
        pace = Pace(serving.port, contender.path, capacity * arguments.times, arguments.seconds)
        client = subprocess.Popen(
            [sys.executable, "-m", "bench.overload_run"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        assert client.stdin is not None
        assert client.stdout is not None
        with client.stdin as asked:
            asked.write(json.dumps(asdict(pace)))
        memory: list[float] = []
        give_up_s = time.monotonic() + arguments.seconds + GRACE_S + 30
        while client.poll() is None and time.monotonic() < give_up_s:
            memory.append(memory_mib(serving.process.pid)[0])
            time.sleep(SAMPLE_S)
        if client.poll() is None:
            client.kill()
        with client.stdout as told:
            figures = json.loads(told.read() or "{}")
        if client.wait() or not figures:
            return {"failures": 1, "example": f"the client ended with {client.returncode}"}
    return {
        "failures": figures["wrong"],
        "example": "wrong answers" if figures["wrong"] else "",
        **figures,
        "capacity_per_s": capacity,
        "bound_ms": bound_ms,
        "p99_of_bound": figures["accepted_p99_ms"] / bound_ms,
        "pss_first_mib": memory[0],
        "pss_most_mib": max(memory),
        "pss_mib_over_time": [round(one, 1) for one in memory],
    }


_FIGURES = [
    ("capacity_per_s", "capacity/s"),
    ("offered_per_s", "offered/s"),
    ("accepted_per_s", "accepted/s"),
    ("bound_ms", "bound ms"),
    ("accepted_p50_ms", "accepted p50 ms"),
    ("accepted_p99_ms", "accepted p99 ms"),
    ("p99_of_bound", "p99 / bound"),
    ("refused_percent", "refused %"),
    ("refused_p50_ms", "refused p50 ms"),
    ("refused_p99_ms", "refused p99 ms"),
    ("unanswered_percent", "no answer %"),
    ("broken_percent", "broken %"),
    ("pss_first_mib", "PSS first MiB"),
    ("pss_most_mib", "PSS most MiB"),
    ("client_late_p99_ms", "client late p99 ms"),
]


def report(result: dict[str, Any], *, markdown: bool = False) -> str:
    """Write the table: a row for each figure, a column for each server."""
    measured = result["summary"].get(WORKLOAD, {})
    names = [name for name in result["settings"]["contenders"] if name in measured]
    rows = [
        [label, *(tables.cell(measured[name].get(key)) for name in names)]
        for key, label in _FIGURES
    ]
    settings = result["settings"]
    title = f"{settings['times']:g} times its capacity, queue of {settings['queue']}, one worker, model of 5 ms"
    parts = [
        ("### " if markdown else "")
        + title
        + "\n\n"
        + tables.grid(["", *names], rows, markdown=markdown)
    ]
    told = tables.failures(result["runs"])
    if told:
        parts.append(("### " if markdown else "") + "Failed\n\n" + told)
    return "\n\n".join(parts)
