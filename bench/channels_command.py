# SPDX-License-Identifier: Apache-2.0
"""`python -m bench channels`: what carries requests between processes, each channel in the same run.

Interleaved like `bench servers`. A channel that cannot be loaded (no native core, no pyzmq) is named and left out.

Flow:  __main__.py -> **channels_command.py** -> channel_run.py (one process for each run) -> tables.py, plots.py
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import machine, plots, tables, targets
from bench.processes import end_tree
from bench.venvs import ROOT, ensure, versions

if TYPE_CHECKING:
    import argparse

KINDS = ["shm", "sockets", "pipes", "manager", "zmq"]
_MIB = 1 << 20

# name -> (title, job)
WORKLOADS: dict[str, tuple[str, dict[str, Any]]] = {
    "bytes-64-x128": ("64 B, 128 in flight", {"mode": "echo", "size_bytes": 64, "in_flight": 128}),
    "bytes-64-x1": ("64 B, one in flight", {"mode": "echo", "size_bytes": 64, "in_flight": 1}),
    "bytes-4k-x128": (
        "4 KiB, 128 in flight",
        {"mode": "echo", "size_bytes": 4096, "in_flight": 128},
    ),
    "array-4k-x128": (
        "float32[1024] with a typed header, 128 in flight",
        {"mode": "array", "size_bytes": 4096, "in_flight": 128},
    ),
    "bytes-64-x128-asyncio": (
        "64 B, 128 in flight, plain asyncio",
        {"mode": "echo", "size_bytes": 64, "in_flight": 128, "loop": "asyncio"},
    ),
    "bytes-64-x1-asyncio": (
        "64 B, one in flight, plain asyncio",
        {"mode": "echo", "size_bytes": 64, "in_flight": 1, "loop": "asyncio"},
    ),
    "views-64m": (
        "64 MiB float32, copied in once, read as a view by the worker and echoed",
        {"mode": "echo", "size_bytes": 64 * _MIB},
    ),
    "hand-over-64m": (
        "64 MiB float32, copied in once, read as a view, short answer",
        {"mode": "ack", "size_bytes": 64 * _MIB},
    ),
    "in-place-64m": (
        "64 MiB float32, written in place through reserve(), handed over, short answer",
        {"mode": "ack", "size_bytes": 64 * _MIB, "place": True},
    ),
    "look": ("one entry, read from a third process", {"mode": "look", "size_bytes": 64}),
}
_FIGURES = [
    ("round_trips_per_s", "round trips/s"),
    ("p50_us", "p50 us"),
    ("p99_us", "p99 us"),
    ("cpu_us", "CPU us"),
    ("front_cpu_us", "front us"),
    ("others_cpu_us", "others us"),
    ("p50_ms", "p50 ms"),
    ("max_ms", "max ms"),
    ("look_us", "us a look"),
]


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
    python = Path(sys.executable) if arguments.in_place else ensure("cubbyhole")
    environment = environment_of(in_place=arguments.in_place)
    names = [n for n in arguments.workloads.split(",") if n]
    unknown = [n for n in names if n not in WORKLOADS]
    if unknown:
        raise SystemExit(
            f"bench: no workload {', '.join(unknown)}. There are: {', '.join(WORKLOADS)}."
        )
    kinds = loadable([k for k in arguments.only.split(",") if k], python, environment)
    settings = {
        "seconds": arguments.seconds,
        "repeat": arguments.repeat,
        "channels": kinds,
        "workloads": names,
    }
    result = {"kind": "channels", "name": arguments.name, **machine.record(settings)}
    result["versions"] = {} if arguments.in_place else {"cubbyhole": versions("cubbyhole")}
    runs: list[dict[str, Any]] = []
    total, done, begun = arguments.repeat * len(names) * len(kinds), 0, time.monotonic()
    for repeat in range(arguments.repeat):
        for name in names:
            for turn in range(len(kinds)):
                kind = kinds[(turn + repeat) % len(kinds)]
                spent = time.monotonic() - begun
                left = spent / done * (total - done) if done else total * (arguments.seconds + 1.5)
                print(
                    f"\rbench: {done}/{total}  {kind:<9}{name:<22} about {left / 60:.1f} min left   ",
                    end="",
                    file=sys.stderr,
                    flush=True,
                )
                figures = one(kind, WORKLOADS[name][1], arguments.seconds, python, environment)
                runs.append({"contender": kind, "workload": name, "repeat": repeat, **figures})
                done += 1
    print(file=sys.stderr)
    result["runs"] = runs
    result["summary"] = tables.summarize(runs)
    result["targets"] = targets.judge(targets.CHANNELS, result["summary"])
    path = machine.save(result, arguments.name)
    path.with_suffix(".svg").write_text(plots.channels(result))
    print(report(result))
    print(f"\n{path.relative_to(ROOT)} and {path.stem}.svg written.")
    return 1 if any(r["failures"] for r in runs) else 0


def loadable(kinds: list[str], python: Path, environment: dict[str, str]) -> list[str]:
    """Return the channels that can be made here; say why the others cannot."""
    code = (
        "import sys\nfrom cubbyhole.channels.base import ChannelSettings\n"
        "from cubbyhole.channels.registry import create_channel\n"
        "create_channel(sys.argv[1], ChannelSettings(slots=16, arena_bytes=1 << 22)).close()"
    )
    good = []
    for kind in kinds:
        done = subprocess.run(
            [str(python), "-c", code, kind],
            capture_output=True,
            text=True,
            cwd=ROOT,
            env=environment,
            check=False,
            timeout=60,
        )
        if done.returncode:
            why = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "no reason given"
            print(f"bench: channel {kind} is left out: {why}", file=sys.stderr)
        else:
            good.append(kind)
    if not good:
        raise SystemExit("bench: no channel can be loaded.")
    return good


def one(
    kind: str, shape: dict[str, Any], seconds: float, python: Path, environment: dict[str, str]
) -> dict[str, Any]:
    """Run one workload on one channel."""
    defaults = {"loop": "uvloop", "in_flight": 1, "place": False, "warmup_s": 0.3, "rounds": 15}
    job = {**defaults, **shape, "channel": kind, "seconds": seconds}
    figures = job_in_process("bench.channel_run", job, seconds + 90, python, environment)
    return {"failures": 0, **figures}


def job_in_process(
    module: str, job: dict[str, Any], limit_s: float, python: Path, environment: dict[str, str]
) -> Any:
    """Give a module its job in a process of its own and return its answer; whatever it leaves is ended.

    Returns:
        What the process wrote, or `{"failures": 1, "example": why}`.
    """
    process = subprocess.Popen(
        [str(python), "-m", module],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=environment,
        start_new_session=True,
    )
    try:
        out, err = process.communicate(json.dumps(job), timeout=limit_s)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        out, err = "", f"no end within {limit_s:.0f} s"
    finally:
        end_tree(process.pid)
        process.wait()
    if process.returncode or not out:
        last = err.strip().splitlines()[-1] if err.strip() else f"exit {process.returncode}"
        return {"failures": 1, "example": last[:500]}
    return json.loads(out)


def environment_of(*, in_place: bool) -> dict[str, str]:
    """Return the environment of a measured process; in place: `src/` before what is installed."""
    return {**os.environ, "PYTHONPATH": str(ROOT / "src")} if in_place else {**os.environ}


def report(result: dict[str, Any], *, markdown: bool = False) -> str:
    """Write all tables of a result."""
    parts = []
    bold = "### " if markdown else ""
    for name in result["settings"]["workloads"]:
        measured = result["summary"].get(name)
        if not measured:
            continue
        names = [n for n in result["settings"]["channels"] if n in measured]
        shown = [f for f in _FIGURES if any(f[0] in measured[n] for n in names)]
        rows = [[n, *(tables.cell(measured[n].get(key)) for key, _ in shown)] for n in names]
        head = ["", *(label for _, label in shown)]
        parts.append(f"{bold}{WORKLOADS[name][0]}\n\n" + tables.grid(head, rows, markdown=markdown))
    if result["targets"]:
        parts.append(
            f"{bold}targets\n\n" + tables.verdict_table(result["targets"], markdown=markdown)
        )
    told = tables.failures(result["runs"])
    if told:
        parts.append(f"{bold}Failed\n\n" + told)
    return "\n\n".join(parts)
