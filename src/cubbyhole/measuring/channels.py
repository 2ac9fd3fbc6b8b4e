# SPDX-License-Identifier: Apache-2.0
"""Each channel under the same loads, in turns: what is run, in which order, and the table of it.

In each repetition every channel has its turn at a load before the next load, and the order rotates, so that a slow minute of
the machine hits all of them. A channel that cannot be made here is named, with the reason, and left out.

Flow:  cli/bench.py, bench/channels_command.py -> **measure** -> jobs.py -> channel_run.py; **report** -> tables.py
"""

from __future__ import annotations

import subprocess
import time
from typing import TYPE_CHECKING, Any

from cubbyhole.measuring import tables
from cubbyhole.measuring.jobs import Place, job_in_process

if TYPE_CHECKING:
    from collections.abc import Callable

KINDS = ("shm", "sockets", "pipes", "manager", "zmq")
_MIB = 1 << 20
_OVERHEAD_S = 1.5  # of a run: two processes start and end

# name -> (title, job)
WORKLOADS: dict[str, tuple[str, dict[str, Any]]] = {
    "bytes-64-x128": ("64 B, 128 in flight", {"mode": "echo", "size_bytes": 64, "in_flight": 128}),
    "bytes-64-x1": ("64 B, one in flight", {"mode": "echo", "size_bytes": 64, "in_flight": 1}),
    "bytes-4k-x128": (
        "4 KiB, 128 in flight",
        {"mode": "echo", "size_bytes": 4096, "in_flight": 128},
    ),
    "bytes-1m-x4": ("1 MiB, 4 in flight", {"mode": "echo", "size_bytes": _MIB, "in_flight": 4}),
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
    "look": (
        "one entry, read from a third process (-: it cannot be)",
        {"mode": "look", "size_bytes": 64},
    ),
}
USUAL = ("bytes-64-x1", "bytes-64-x128", "bytes-4k-x128", "bytes-1m-x4", "views-64m", "look")
_FIGURES = (
    ("round_trips_per_s", "round trips/s"),
    ("p50_us", "p50 us"),
    ("p99_us", "p99 us"),
    ("cpu_us", "CPU us"),
    ("front_cpu_us", "front us"),
    ("worker_cpu_us", "worker us"),
    ("other_cpu_us", "others us"),
    ("p50_ms", "p50 ms"),
    ("max_ms", "max ms"),
    ("look_us", "us a look"),
)
_PROBE = (
    "import sys\nfrom cubbyhole.channels.base import ChannelSettings\n"
    "from cubbyhole.channels.registry import create_channel\n"
    "create_channel(sys.argv[1], ChannelSettings(slots=16, arena_bytes=1 << 22)).close()"
)


def why_not(kind: str, place: Place) -> str:
    """Return why a channel cannot be made there; empty if it can."""
    done = subprocess.run(
        [place.python, "-c", _PROBE, kind],
        capture_output=True,
        text=True,
        cwd=place.folder,
        env=place.environment,
        check=False,
        timeout=60,
    )
    if not done.returncode:
        return ""
    return done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "no reason given"


def loadable(kinds: list[str], place: Place, tell: Callable[[str], None]) -> list[str]:
    """Return the channels that can be made there, and tell why the others cannot."""
    good = []
    for kind in kinds:
        why = why_not(kind, place)
        if why:
            tell(f"channel {kind} is left out: {why}")
        else:
            good.append(kind)
    return good


def measure(
    kinds: list[str],
    workloads: list[str],
    place: Place,
    tell: Callable[[str, int, int, float], None],
    *,
    seconds: float,
    repeat: int,
) -> list[dict[str, Any]]:
    """Run every load on every channel, `repeat` times.

    Args:
        kinds: Channels, of `KINDS`.
        workloads: Of `WORKLOADS`.
        place: Which python runs them.
        tell: Called before each run: what, how many are done, of how many, seconds left.
        seconds: Of each run, where a load runs for a time.
        repeat: How often, >= 1.

    Returns:
        A record for each run; `failures` says whether it counts.
    """
    runs: list[dict[str, Any]] = []
    total, begun = repeat * len(workloads) * len(kinds), time.monotonic()
    for turn in range(repeat):
        for name in workloads:
            for place_in_turn in range(len(kinds)):
                kind = kinds[(place_in_turn + turn) % len(kinds)]
                spent, done = time.monotonic() - begun, len(runs)
                each_s = spent / done if done else seconds + _OVERHEAD_S
                tell(f"{kind:<9}{name:<22}", done, total, each_s * (total - done))
                figures = one(kind, WORKLOADS[name][1], seconds, place)
                runs.append({"contender": kind, "workload": name, "repeat": turn, **figures})
    return runs


def one(kind: str, shape: dict[str, Any], seconds: float, place: Place) -> dict[str, Any]:
    """Run one load on one channel."""
    defaults = {"loop": "uvloop", "in_flight": 1, "place": False, "warmup_s": 0.3, "rounds": 15}
    job = {**defaults, **shape, "channel": kind, "seconds": seconds}
    figures = job_in_process("cubbyhole.measuring.channel_run", job, seconds + 90, place)
    return {"failures": 0, **figures}


def report(result: dict[str, Any], *, markdown: bool = False) -> list[str]:
    """Write a table for each load of a result, and what failed."""
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
    told = tables.failures(result["runs"])
    if told:
        parts.append(f"{bold}Failed\n\n" + told)
    return parts
