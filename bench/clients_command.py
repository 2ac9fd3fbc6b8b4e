# SPDX-License-Identifier: Apache-2.0
"""`python -m bench clients`: large tensors by each way that a client may send them, beside other servers of the same protocol.

    oip-4m      4 MiB float32 in and out, 4 connections: Open Inference Protocol in binary (Cubbyhole, KServe), as JSON (MLServer),
                raw bytes where a server has no such protocol (LitServe, mosec)
    raw-10m     10 MiB as raw bytes in and out, one connection; `bare` is what uvicorn alone takes for it, `sockets` what the kernel does
    handover    64 MiB in and out by descriptor on the same machine
    uploads     small requests alone, and while two clients upload 50 MiB bodies without a pause

Flow:  __main__.py -> **clients_command.py** -> contenders.Serving, clients_run.py (a process) -> results/*.json
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench import machine, tables, targets
from bench.contenders import Contender, Serving
from bench.venvs import ROOT, ensure, versions

if TYPE_CHECKING:
    import argparse

MIB = 1 << 20
_START_LIMIT_S = 60.0


@dataclass(frozen=True)
class Case:
    """One server under one kind of load."""

    workload: str
    contender: Contender
    server: str
    kind: str
    size_bytes: int
    connections: int = 1


def _case(workload: str, name: str, script: str, server: str, kind: str, **more: Any) -> Case:
    path, venv = more.pop("path", "/predict"), more.pop("venv", name)
    return Case(workload, Contender(name, venv, script, path), server, kind, **more)


_OIP = "/v2/models/double/infer"
_FOUR: dict[str, Any] = {"size_bytes": 4 * MIB, "connections": 4}
CASES = [
    _case("oip-4m", "cubbyhole", "oip_server.py", "oip", "oip", path=_OIP, **_FOUR),
    _case("oip-4m", "kserve", "kserve_server.py", "oip", "oip", path=_OIP, **_FOUR),
    _case("oip-4m", "mlserver", "mlserver_server.py", "oip", "oip-json", path=_OIP, **_FOUR),
    _case("oip-4m", "litserve", "litserve_server.py", "raw", "raw", **_FOUR),
    _case("oip-4m", "mosec", "mosec_server.py", "raw", "raw", path="/inference", **_FOUR),
    _case("oip-4m", "bare", "bare_server.py", "raw", "raw", **_FOUR),
    _case("raw-10m", "cubbyhole", "oip_server.py", "raw", "raw", size_bytes=10 * MIB),
    _case("raw-10m", "bare", "bare_server.py", "raw", "raw", size_bytes=10 * MIB),
    _case("raw-10m", "sockets", "socket_server.py", "raw", "raw", venv="bare", size_bytes=10 * MIB),
    _case("raw-10m", "litserve", "litserve_server.py", "raw", "raw", size_bytes=10 * MIB),
    _case(
        "raw-10m", "mosec", "mosec_server.py", "raw", "raw", path="/inference", size_bytes=10 * MIB
    ),
    _case("handover", "cubbyhole", "oip_server.py", "handover", "handover", size_bytes=64 * MIB),
    _case("uploads", "cubbyhole", "oip_server.py", "uploads", "uploads", size_bytes=50 * MIB),
]
_SENT_AS = {"oip": "binary tensors", "oip-json": "JSON", "raw": "raw bytes"}
_FIGURES = {
    "requests_per_s": "requests/s",
    "p50_ms": "p50 ms",
    "p99_ms": "p99 ms",
    "server_cpu_ms": "server CPU ms/request",
    "client_cpu_ms": "client CPU ms/request",
    "quiet_p50_ms": "alone p50 ms",
    "quiet_p99_ms": "alone p99 ms",
    "beside_p50_ms": "beside uploads p50 ms",
    "beside_p99_ms": "beside uploads p99 ms",
    "uploads_per_s": "uploads/s",
}
_TITLES = {
    "oip-4m": "4 MiB float32 in and out, 4 connections",
    "raw-10m": "10 MiB of raw bytes in and out, one connection",
    "handover": "64 MiB handed over on the same machine, in and out",
    "uploads": "Small requests (4 connections) alone, and beside two that upload 50 MiB bodies",
}


def _over(name: str) -> Any:
    def ratio(g: Any) -> float:
        rates = [g("oip-4m", who, "requests_per_s") for who in ("cubbyhole", name)]
        return float(rates[0] / rates[1])

    return ratio


TARGETS: list[targets.Target] = [
    targets.Target(f"4 MiB float32 by OIP binary, over {name}'s", _over(name), 2, True, "x")
    for name in ("kserve", "mlserver", "litserve", "mosec")
]
TARGETS += [
    targets.Target(
        "10 MiB in and out, p50",
        lambda g: g("raw-10m", "cubbyhole", "p50_ms"),
        8,
        False,
        "ms",
    ),
    targets.Target(
        "64 MiB handed over, p50", lambda g: g("handover", "cubbyhole", "p50_ms"), 1, False, "ms"
    ),
    targets.Target(
        "p99 of small requests beside uploads, over alone",
        lambda g: (
            g("uploads", "cubbyhole", "beside_p99_ms") / g("uploads", "cubbyhole", "quiet_p99_ms")
        ),
        3,
        False,
        "x",
    ),
]


class _Large(Serving):
    """A server that is ready when it answers a small request of the same kind."""

    case: Case

    def _wait(self, begun: float) -> None:
        while time.monotonic() - begun < _START_LIMIT_S:
            if self.process.poll() is not None:
                raise RuntimeError(f"{self.contender.name} ended by itself:\n{self.log_tail()}")
            asked = _asked(self, 4096, 0.05)
            if not asked.get("failures", 1):
                self.start_s = time.monotonic() - begun
                return
            time.sleep(0.2)
        raise RuntimeError(
            f"{self.contender.name} gave no right answer: {asked.get('example')}\n{self.log_tail()}"
        )


def _asked(serving: _Large, size_bytes: int, seconds: float) -> dict[str, Any]:
    case, kind = serving.case, serving.case.kind
    wanted: dict[str, Any] = {"kind": kind, "port": serving.port, "path": case.contender.path}
    wanted |= {"size_bytes": size_bytes, "seconds": seconds, "connections": case.connections}
    wanted["root_pid"] = serving.process.pid
    # The client that hands memory over is ours; the others need nothing but the standard library.
    runs_in = str(serving.python) if kind == "handover" else sys.executable
    try:
        done = subprocess.run(
            [runs_in, "-m", "bench.clients_run"],
            input=json.dumps(wanted),
            capture_output=True,
            text=True,
            cwd=ROOT,
            check=False,
            timeout=8 * seconds + 90,
        )
    except subprocess.TimeoutExpired:
        return {"failures": 1, "example": "the client did not end"}
    if done.returncode:
        return {"failures": 1, "example": done.stderr[-500:]}
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--only", default="", metavar="A,B", help="workloads (default: all)")
    parser.add_argument("--repeat", type=int, default=3, metavar="N", help="(default: %(default)s)")
    parser.add_argument(
        "--seconds", type=float, default=4.0, metavar="S", help="of each run (default: %(default)s)"
    )
    parser.add_argument("--name", default="clients", help="bench/results/NAME.json (%(default)s)")


def run(arguments: argparse.Namespace) -> int:
    only = [name for name in arguments.only.split(",") if name] or list(_TITLES)
    unknown = [name for name in only if name not in _TITLES]
    if unknown:
        raise SystemExit(
            f"bench: no workload {', '.join(unknown)}. There are: {', '.join(_TITLES)}."
        )
    cases = [case for case in CASES if case.workload in only]
    pythons = {case.contender.venv: ensure(case.contender.venv) for case in cases}
    settings = {"repeat": arguments.repeat, "seconds": arguments.seconds, "workloads": only}
    result = {"kind": "clients", "name": arguments.name, **machine.record(settings)}
    result["versions"] = {name: versions(name) for name in pythons}
    runs: list[dict[str, Any]] = []
    for repeat in range(arguments.repeat):
        for case in cases:
            print(f"bench: {case.workload} {case.contender.name}, {repeat + 1}", file=sys.stderr)
            serving = _Large(case.contender, case.server, pythons[case.contender.venv])
            serving.case = case
            about = {"contender": case.contender.name, "workload": case.workload, "repeat": repeat}
            try:
                with serving:
                    found = _asked(serving, case.size_bytes, arguments.seconds)
            except (RuntimeError, OSError) as error:
                found = {"failures": 1, "example": str(error)[:600]}
            runs.append({**about, **found})
    result["runs"] = runs
    result["summary"] = tables.summarize(runs)
    result["targets"] = targets.judge(TARGETS, result["summary"])
    path = machine.save(result, arguments.name)
    print(report(result))
    print(f"\n{path.relative_to(ROOT)} written.")
    return 1 if any(one["failures"] for one in runs) else 0


def _title(workload: str, name: str) -> str:
    kinds = [c.kind for c in CASES if c.workload == workload and c.contender.name == name]
    sent_as = _SENT_AS.get(kinds[0]) if kinds else None
    return f"{name} ({sent_as})" if sent_as else name


def report(result: dict[str, Any], *, markdown: bool = False) -> str:
    """Write a table for each workload, then the targets."""
    mark = "### " if markdown else ""
    parts = []
    for workload in result["settings"]["workloads"]:
        measured = result["summary"].get(workload, {})
        named = [key for key in _FIGURES if any(key in one for one in measured.values())]
        rows = [
            [_title(workload, name), *(tables.cell(one.get(key)) for key in named)]
            for name, one in measured.items()
        ]
        head = ["", *(_FIGURES[key] for key in named)]
        parts.append(mark + _TITLES[workload] + "\n\n" + tables.grid(head, rows, markdown=markdown))
    parts.append(mark + "Targets\n\n" + tables.verdict_table(result["targets"], markdown=markdown))
    told = tables.failures(result["runs"])
    if told:
        parts.append(mark + "Failed\n\n" + told)
    return "\n\n".join(parts)
