# SPDX-License-Identifier: Apache-2.0
"""`python -m bench article`: the article's claims about pipes and a managed dict, measured on every channel.

Claims 1 to 5 run on the channels alone, claim 6 is the whole server by each channel over HTTP, beside LitServe and mosec.
Interleaved: each channel has its turn at a claim before the next claim.

Flow:  __main__.py -> **article_command.py** -> article_run.py (one process for each claim and channel) -> results/*.json
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from bench import machine, plots, servers_command, tables
from bench.channels_command import KINDS, environment_of, job_in_process, loadable
from bench.contenders import CONTENDERS, WORKLOADS
from bench.venvs import ROOT, ensure, versions

_KIB, _MIB = 1 << 10, 1 << 20
SIZES = [64, 4 * _KIB, 64 * _KIB, _MIB, 16 * _MIB, 64 * _MIB]

# claim -> (title, jobs); each job is one process
CLAIMS: dict[str, tuple[str, list[dict[str, Any]]]] = {
    "sizes": (
        "1. Serialization: a round trip against its size (echo, one in flight)",
        [{"sizes": SIZES, "seconds": 0.5, "limit_s": 150, "arena_bytes": 1 << 30}],
    ),
    "blocking": (
        "2a. Blocking: one consumer stopped for 2 s, 64 producers of 64 KiB, another consumer goes on",
        [{"body_bytes": 64 * _KIB, "limit_s": 90}],
    ),
    "lag": (
        "2b. Blocking: lateness of the front's event loop while 50 MiB bodies pass",
        [{"body_bytes": 50 * _MIB, "rounds": 20, "limit_s": 120}],
    ),
    "visibility": (
        "3. Visibility: what a third process sees of a request whose worker is killed",
        [{"limit_s": 60}],
    ),
    "access": (
        "4. Custom access: 1,000 wait at a low rank behind a busy worker (0.5 ms each), one comes at a high rank",
        [{"queued": 1000, "work_s": 0.0005, "limit_s": 90}],
    ),
    "concurrency": (
        "5. Concurrency: 64 B, from 1 to 512 in flight, 1 to 4 workers",
        [
            {"workers": n, "in_flight": [1, 8, 64, 128, 512], "seconds": 0.7, "limit_s": 60}
            for n in (1, 2, 4)
        ],
    ),
}
_SERVER_WORKLOADS = ["noop-1", "noop-32", "raw-64k", "raw-4m", "stream-16"]
_LABELS = {
    "p50_us": "p50 us",
    "p99_us": "p99 us",
    "p50_ms": "p50 ms",
    "cpu_us": "CPU us",
    "faults": "page faults",
    "channel_copies": "copies by the channel",
    "producer_wait_p50_ms": "producer waits p50 ms",
    "producer_wait_max_ms": "max ms",
    "accepted": "answered of 64",
    "unrelated_before_per_s": "unrelated/s before",
    "unrelated_during_per_s": "during",
    "loop_lag_p99_ms": "loop late p99 ms",
    "loop_lag_max_ms": "max ms",
    "answer_after_death_ms": "client knows after ms",
    "answered_before_it": "answered before it",
    "waited_ms": "it waited ms",
    "round_trips_per_s": "round trips/s",
    "front_cpu_us": "front us",
    "worker_cpu_us": "workers us",
    "other_cpu_us": "others us",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--quick", action="store_true", help="one repetition, no HTTP: a look, not a figure"
    )
    parser.add_argument(
        "--only", default=",".join(KINDS), metavar="A,B", help="channels (default: %(default)s)"
    )
    parser.add_argument(
        "--claims",
        default=",".join([*CLAIMS, "servers"]),
        metavar="A,B",
        help="default: %(default)s",
    )
    parser.add_argument(
        "--repeat", type=int, default=3, metavar="N", help="repetitions (default: %(default)s)"
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=2.0,
        metavar="S",
        help="of each HTTP run (default: %(default)s)",
    )
    parser.add_argument(
        "--name", default="article", help="bench/results/NAME.json (default: %(default)s)"
    )
    parser.add_argument(
        "--in-place",
        action="store_true",
        help="cubbyhole from src/ with this python, not installed",
    )


def run(arguments: argparse.Namespace) -> int:
    claims = [name for name in arguments.claims.split(",") if name]
    if arguments.quick:
        arguments.repeat = 1
        claims = [name for name in claims if name != "servers"]
        arguments.name = "article-quick" if arguments.name == "article" else arguments.name
    unknown = [name for name in claims if name not in CLAIMS and name != "servers"]
    if unknown:
        raise SystemExit(
            f"bench: no claim {', '.join(unknown)}. There are: {', '.join(CLAIMS)}, servers."
        )
    python = Path(sys.executable) if arguments.in_place else ensure("cubbyhole")
    environment = environment_of(in_place=arguments.in_place)
    kinds = loadable([k for k in arguments.only.split(",") if k], python, environment)
    settings = {
        "repeat": arguments.repeat,
        "channels": kinds,
        "claims": claims,
        "seconds": arguments.seconds,
    }
    result = {"kind": "article", "name": arguments.name, **machine.record(settings)}
    result["versions"] = {} if arguments.in_place else {"cubbyhole": versions("cubbyhole")}
    runs: list[dict[str, Any]] = []
    turns = [(r, c) for r in range(arguments.repeat) for c in claims if c in CLAIMS]
    for number, (repeat, claim) in enumerate(turns):
        for kind in kinds:
            print(
                f"\rbench: {number}/{len(turns)}  {claim:<12}{kind:<9}",
                end="",
                file=sys.stderr,
                flush=True,
            )
            for job in CLAIMS[claim][1]:
                asked = {**job, "claim": claim, "channel": kind}
                runs += _records(
                    claim,
                    kind,
                    repeat,
                    job_in_process(
                        "bench.article_run", asked, job["limit_s"] + 30.0, python, environment
                    ),
                )
    print(file=sys.stderr)
    result["runs"] = runs
    result["summary"] = tables.summarize(runs)
    if "servers" in claims:
        result["servers"] = _servers(kinds, python, arguments)
    path = machine.save(result, arguments.name)
    path.with_suffix(".svg").write_text(plots.article(result))
    print(report(result))
    print(f"\n{path.relative_to(ROOT)} and {path.stem}.svg written.")
    failed = [r for r in runs if r["failures"]]
    for r in failed:
        print(f"FAILED {r['contender']} {r['workload']}: {r['example']}")
    return 1 if failed else 0


def _records(claim: str, kind: str, repeat: int, answer: Any) -> list[dict[str, Any]]:
    about = {"contender": kind, "repeat": repeat}
    if isinstance(answer, dict):  # the process failed
        return [{**about, "workload": claim, **answer}]
    return [
        {**about, "workload": f"{claim}:{record['case']}", "failures": 0, **record}
        for record in answer
    ]


def _servers(kinds: list[str], python: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Claim 6: one API by every channel, and two peers, over HTTP."""
    names = [f"cubbyhole-{k}" if k != "shm" else "cubbyhole" for k in kinds] + ["litserve", "mosec"]
    contenders = [CONTENDERS[name] for name in names]
    pythons = {c.venv: python if c.venv == "cubbyhole" else ensure(c.venv) for c in contenders}
    options = argparse.Namespace(seconds=arguments.seconds, warmup=0.5, repeat=arguments.repeat)
    workloads = [WORKLOADS[name] for name in _SERVER_WORKLOADS]
    runs = servers_command.measure(contenders, workloads, pythons, options)
    return {
        "runs": runs,
        "summary": tables.summarize(runs),
        "targets": [],
        "settings": {"contenders": names, "repeat": arguments.repeat},
    }


def report(result: dict[str, Any], *, markdown: bool = False) -> str:
    """Write one table for each claim: a line for each case and channel."""
    parts, bold = [], "### " if markdown else ""
    for claim, (title, _) in CLAIMS.items():
        cases = [name for name in result["summary"] if name.partition(":")[0] == claim]
        shown = [
            f for f in _LABELS if any(f in c for n in cases for c in result["summary"][n].values())
        ]
        rows = []
        for case in cases:
            for kind in result["settings"]["channels"]:
                figures = result["summary"][case].get(kind)
                if figures:
                    spread = len(shown) < 6
                    rows.append(
                        [
                            case.partition(":")[2],
                            kind,
                            *(tables.cell(figures.get(f), spread=spread) for f in shown),
                        ]
                    )
        if rows:
            parts.append(
                f"{bold}{title}\n\n"
                + tables.grid(
                    ["case", "channel", *(_LABELS[f] for f in shown)], rows, markdown=markdown
                )
            )
        if claim == "visibility":
            parts += _sights(result, markdown=markdown)
    if "servers" in result:
        parts.append(
            f"{bold}6. The whole server over HTTP\n\n"
            + servers_command.report(result["servers"], markdown=markdown)
        )
    return "\n\n".join(parts)


def _sights(result: dict[str, Any], *, markdown: bool) -> list[str]:
    """Return a table of what was seen, from the last repetition of each channel."""
    last = {r["contender"]: r for r in result["runs"] if r["workload"].startswith("visibility:")}
    rows = [
        [
            kind,
            "; ".join(r["seen_before"]) or "nothing",
            "; ".join(r["seen_after"]) or "nothing",
            r["answer"],
        ]
        for kind, r in last.items()
    ]
    head = ["channel", "seen while it ran", "seen after the kill", "the client's answer"]
    return [tables.grid(head, rows, markdown=markdown)] if rows else []
