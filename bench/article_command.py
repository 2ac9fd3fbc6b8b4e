# SPDX-License-Identifier: Apache-2.0
"""`python -m bench article`: the article's claims about pipes and a managed dict, measured on every channel.

Claims 1 to 5 run on the channels alone, claim 6 is the whole server by each channel over HTTP, beside LitServe and mosec, and `dict` asks
the same of the dictionary on its own and its peers. Interleaved: each channel has its turn at a claim before the next claim.

Flow:  __main__.py -> **article_command.py** -> article_run.py (one process for each claim and channel) -> results/*.json
                                             -> article_more.py (servers, dictionaries)
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

from bench import dict_command, machine, plots, servers_command, tables, targets
from bench.article_more import MORE
from bench.budget import Budget
from bench.channels_command import loadable, place_of
from bench.venvs import ROOT, versions
from cubbyhole.measuring.channels import KINDS
from cubbyhole.measuring.jobs import job_in_process

if TYPE_CHECKING:
    import argparse

    from cubbyhole.measuring.jobs import Place

_KIB, _MIB = 1 << 10, 1 << 20
SIZES = [64, 4 * _KIB, 64 * _KIB, _MIB, 16 * _MIB, 64 * _MIB]

# claim -> (title, jobs); each job is one process
CLAIMS: dict[str, tuple[str, list[dict[str, Any]]]] = {
    "sizes": (
        "1. Serialization: a round trip against its size (echo, one in flight)",
        [{"sizes": SIZES, "seconds": 0.5, "limit_s": 300, "arena_bytes": 1 << 30}],
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
        "4. Custom access: one at a high rank behind 1,000 at a low one (0.5 ms each); answers that pass one of 300 ms",
        [{"queued": 1000, "work_s": 0.0005, "slow_ms": 300, "limit_s": 90}],
    ),
    "concurrency": (
        "5. Concurrency: 64 B, from 1 to 512 in flight, 1 to 4 workers",
        [
            {"workers": n, "in_flight": [1, 8, 64, 128, 512], "seconds": 0.7, "limit_s": 60}
            for n in (1, 2, 4)
        ],
    ),
}
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
    "passed_it": "answers that passed it",
    "round_trips_per_s": "round trips/s",
    "front_cpu_us": "front CPU us",
    "worker_cpu_us": "workers us",
    "other_cpu_us": "others us",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--quick",
        action="store_true",
        help="one repetition, no HTTP, no dictionaries: a look, not a figure",
    )
    parser.add_argument(
        "--only", default=",".join(KINDS), metavar="A,B", help="channels (default: %(default)s)"
    )
    parser.add_argument(
        "--claims",
        default=",".join([*CLAIMS, *MORE]),
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
        "--budget-minutes",
        type=float,
        default=0.0,
        metavar="M",
        help="measure for about so long: runs get shorter, repetitions fewer, each claim is measured once at least (default: no limit)",
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
        claims = [name for name in claims if name not in MORE]
        arguments.name = "article-quick" if arguments.name == "article" else arguments.name
    unknown = [name for name in claims if name not in {*CLAIMS, *MORE}]
    if unknown:
        raise SystemExit(
            f"bench: no claim {', '.join(unknown)}. There are: {', '.join([*CLAIMS, *MORE])}."
        )
    place = place_of(in_place=arguments.in_place)
    kinds = loadable(arguments.only, place)
    budget = Budget.of_minutes(arguments.budget_minutes, claims, len(kinds))
    settings = {
        "repeat": arguments.repeat,
        "channels": kinds,
        "claims": claims,
        "seconds": arguments.seconds,
        "budget_minutes": arguments.budget_minutes,
    }
    result = {"kind": "article", "name": arguments.name, **machine.record(settings)}
    result["versions"] = {} if arguments.in_place else {"cubbyhole": versions("cubbyhole")}
    more = [MORE[name](kinds, place, arguments, budget) for name in claims if name in MORE]
    for part in more:
        result["versions"] |= part.prepare()
    budget.start()
    result["runs"], result["left_out"] = _measure(
        [c for c in claims if c in CLAIMS], kinds, arguments.repeat, budget, place
    )
    result["summary"] = tables.summarize(result["runs"])
    for part in more:
        result[part.name] = part.measure()
        result["left_out"] += part.left_out
    path = machine.save(result, arguments.name)
    path.with_suffix(".svg").write_text(plots.article(result))
    print(report(result))
    print(f"\n{path.relative_to(ROOT)} and {path.stem}.svg written.")
    runs = result["runs"] + [run for part in more for run in result[part.name]["runs"]]
    # a peer that fails is a finding, not a failure of the bench
    ours = {"shm", targets.US, dict_command.OURS}
    return 1 if any(r["failures"] and r["contender"] in ours for r in runs) else 0


def _measure(
    claims: list[str],
    kinds: list[str],
    repeat: int,
    budget: Budget,
    where: Place,
) -> tuple[list[dict[str, Any]], list[str]]:
    """Give each channel its turn at each claim; the order rotates. Returns the runs, and what had no room."""
    runs: list[dict[str, Any]] = []
    left_out: list[str] = []
    turns = [(r, c) for r in range(repeat) for c in claims]
    for number, (turn, claim) in enumerate(turns):
        if not budget.has_room(claim, first=turn == 0):
            left_out.append(f"{claim}, repetition {turn + 1}")
            continue
        begun = time.monotonic()
        for place in range(len(kinds)):
            kind = kinds[(place + turn) % len(kinds)]
            text = f"\rbench: {number}/{len(turns)}  {claim:<12}{kind:<9}"
            print(text, end="", file=sys.stderr, flush=True)
            for job in CLAIMS[claim][1]:
                asked = {**job, "claim": claim, "channel": kind}
                if "seconds" in job:
                    asked["seconds"] = job["seconds"] * budget.scale
                answer = job_in_process("bench.article_run", asked, job["limit_s"] + 30.0, where)
                runs += _records(claim, kind, turn, answer)
        budget.took(claim, time.monotonic() - begun)
    print(file=sys.stderr)
    return runs, left_out


def _records(claim: str, kind: str, repeat: int, answer: dict[str, Any]) -> list[dict[str, Any]]:
    """Turn a job's answer into runs; what was measured before a failure stays, the failure is a run of its own."""
    about = {"contender": kind, "repeat": repeat}
    failure = answer.get("failure") or answer.get("example", "")
    runs = [
        {**about, "workload": f"{claim}:{record['case']}", "failures": 0, **record}
        for record in answer.get("records", [])
    ]
    if failure:
        runs.append({**about, "workload": claim, "failures": 1, "example": failure[-600:]})
    return runs


def report(result: dict[str, Any], *, markdown: bool = False) -> str:
    """Write one table for each claim: a line for each case and channel."""
    parts, bold = [], "### " if markdown else ""
    for claim, (title, _) in CLAIMS.items():
        parts += claim_tables(result, claim, title=f"{bold}{title}\n\n", markdown=markdown)
    told = tables.failures(result["runs"])
    if told:
        parts.append(f"{bold}Failed\n\n" + told)
    if result.get("left_out"):
        parts.append("No time was left for: " + "; ".join(result["left_out"]) + ".")
    if "servers" in result:
        parts.append(
            f"{bold}6. The whole server over HTTP\n\n"
            + servers_command.report(result["servers"], markdown=markdown)
        )
    if "dict" in result:
        parts.append(
            f"{bold}7. The dictionary on its own\n\n"
            + dict_command.report(result["dict"], markdown=markdown)
        )
    return "\n\n".join(parts)


def claim_tables(
    result: dict[str, Any], claim: str, *, title: str = "", markdown: bool = True
) -> list[str]:
    """Write the tables of one claim; none if it was not measured."""
    parts = []
    cases = [name for name in result["summary"] if name.partition(":")[0] == claim]
    measured = [c for name in cases for c in result["summary"][name].values()]
    shown = [f for f in _LABELS if any(f in figures for figures in measured)]
    rows = []
    for case in cases:
        for kind in result["settings"]["channels"]:
            figures = result["summary"][case].get(kind)
            if figures:
                cells = [tables.cell(figures.get(f), spread=len(shown) < 6) for f in shown]
                rows.append([case.partition(":")[2], kind, *cells])
    if rows:
        head = ["case", "channel", *(_LABELS[f] for f in shown)]
        parts.append(title + tables.grid(head, rows, markdown=markdown))
    if claim == "visibility":
        parts += _sights(result, markdown=markdown)
    return parts


def _sights(result: dict[str, Any], *, markdown: bool) -> list[str]:
    """Return a table of what was seen, from the last repetition of each channel."""
    last = {r["contender"]: r for r in result["runs"] if r["workload"].startswith("visibility:")}
    rows = [
        [
            kind,
            "; ".join(r["seen_before"]) or "nothing",
            "; ".join(r["seen_after"])
            or ("nothing: it was answered already" if r["answered_by_then"] else "nothing"),
            r["answer"],
        ]
        for kind, r in last.items()
    ]
    head = ["channel", "seen while it ran", "seen after the kill", "the client's answer"]
    return [tables.grid(head, rows, markdown=markdown)] if rows else []
