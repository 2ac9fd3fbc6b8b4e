# SPDX-License-Identifier: Apache-2.0
"""`python -m bench seeing`: what it costs a server to be seen. The no-op, with each way to look switched on, and with all of them.

Interleaved like `bench servers`: in each repetition every way has its turn, and the order is rotated. A way that this version of
`cubbyhole serve` does not offer is named and left out. Whoever looks is a process of its own: it takes CPU from the server on a small
machine, which req/s show, and costs the server itself what CPU per request shows.

Flow:  __main__.py -> **seeing_command.py** -> contenders.Serving (seen_server.py), seeing_watchers.py -> results/seeing.json
"""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import machine, tables
from bench.contenders import WORKLOADS, Contender, Serving, free_port
from bench.venvs import ROOT

if TYPE_CHECKING:
    import argparse

WORKLOAD = WORKLOADS["noop-32"]
LIMIT = 0.95  # of the req/s of a server that nobody looks at


@dataclass(frozen=True)
class Way:
    """A way to see a server.

    Attributes:
        option: The parameter of `cubbyhole serve` without which it is not there; empty: it always is.
        words: Further words of the command line; {port} is a free one.
        watcher: What seeing_watchers.py does; empty: nobody looks. {server} is the server's port, {pid} its process.
        asked_for: Nobody has it without asking for just this, so it is measured by itself and is no part of "all of them".
    """

    name: str
    title: str
    option: str = ""
    words: tuple[str, ...] = ()
    watcher: tuple[str, ...] = ()
    asked_for: bool = False

    @property
    def offered(self) -> bool:
        from cubbyhole.cli.serve import serve

        return not self.option or self.option in inspect.signature(serve).parameters


WAYS = {
    way.name: way
    for way in (
        Way("metrics", "/metrics is scraped each second", watcher=("scrape", "{server}")),
        Way("observer", "top and stats look each second", watcher=("observe", "{pid}")),
        Way("access-log", "a JSON line for each request", "access_log", ("--access-log", "--log", "json")),
        Way(
            "inspector",
            "the inspector's page is open",
            "inspector",
            ("--inspector", "{port}"),
            ("page", "{port}"),
        ),
        Way(
            "otel",
            "ten traces a second, to a collector that drops them",
            "otel_endpoint",
            ("--otel-endpoint", "http://127.0.0.1:{port}"),
            ("collect", "{port}"),
        ),
        Way(
            "otel-all",
            "a trace of every request, the same",
            "otel_traces_per_s",
            ("--otel-endpoint", "http://127.0.0.1:{port}", "--otel-traces-per-s", "all"),
            ("collect", "{port}"),
            asked_for=True,
        ),
    )
}  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--only", default=",".join(WAYS), metavar="A,B", help="ways (default: %(default)s)"
    )
    parser.add_argument("--repeat", type=int, default=5, metavar="N", help="repetitions")
    parser.add_argument("--seconds", type=float, default=3.0, metavar="S", help="of each run")
    parser.add_argument("--name", default="seeing", help="bench/results/NAME.json")


def run(arguments: argparse.Namespace) -> int:
    os.environ["PYTHONPATH"] = str(ROOT / "src")
    os.environ["OTEL_BSP_SCHEDULE_DELAY"] = "500"  # ms: few spans are to be sent within a run, too
    names = [name for name in arguments.only.split(",") if name]
    unknown = [name for name in names if name not in WAYS]
    if unknown:
        raise SystemExit(f"bench: no way {', '.join(unknown)}. There are: {', '.join(WAYS)}.")
    offered = [WAYS[name] for name in names if WAYS[name].offered]
    missing = [name for name in names if not WAYS[name].offered]
    if missing:
        print(f"bench: left out, as this version has no such option: {', '.join(missing)}")
    turns: list[tuple[str, list[Way]]] = [("off", [])]
    turns += [(way.name, [way]) for way in offered]
    together = [way for way in offered if not way.asked_for]
    if len(together) > 1:
        turns.append(("all", together))
    settings = {
        "seconds": arguments.seconds,
        "repeat": arguments.repeat,
        "ways": [t[0] for t in turns],
    }
    runs = []
    for repeat in range(arguments.repeat):
        for number in range(len(turns)):
            name, ways = turns[(number + repeat) % len(turns)]
            print(f"bench: {repeat + 1}/{arguments.repeat} {name}", file=sys.stderr)
            runs.append(
                {
                    "contender": name,
                    "repeat": repeat,
                    "workload": WORKLOAD.name,
                    **measure(name, ways, arguments.seconds),
                }
            )
    result = {"kind": "seeing", "name": arguments.name, **machine.record(settings), "runs": runs}
    result["missing"] = missing
    result["summary"] = tables.summarize(runs)
    path = machine.save(result, arguments.name)
    print(report(result))
    print(f"\n{path.relative_to(ROOT)} written.")
    return 1 if any(one["failures"] for one in runs) else 0


def measure(name: str, ways: list[Way], seconds: float) -> dict[str, Any]:
    """Run the workload on a server that is looked at in these ways."""
    ports = {way.name: str(free_port()) for way in ways}
    words = [word.format(port=ports[way.name]) for way in ways for word in way.words]
    contender = Contender(f"seen-{name}", "cubbyhole", "seen_server.py", words=tuple(words))
    try:
        with ExitStack() as stack:
            # Who collects has to be there first, who looks at a server must find it there.
            early = [way for way in ways if way.watcher[:1] == ("collect",)]
            watchers = [stack.enter_context(Watcher(way, ports[way.name])) for way in early]
            serving = stack.enter_context(Serving(contender, "noop", Path(sys.executable)))
            places = {"server": str(serving.port), "pid": str(serving.process.pid)}
            late = [way for way in ways if way.watcher and way not in early]
            watchers += [
                stack.enter_context(Watcher(way, ports[way.name], **places)) for way in late
            ]
            figures = serving.load(WORKLOAD, seconds, 1.0)
            looks = {watcher.name: watcher.end() for watcher in watchers}
    except (RuntimeError, OSError) as error:
        return {"failures": 1, "requests": 0, "example": str(error)[-600:]}
    unseen = [watcher for watcher, count in looks.items() if not count]
    if unseen:
        figures |= {"failures": 1, "example": f"nothing was seen by {', '.join(unseen)}"}
    return figures


class Watcher:
    """A process that looks at the server."""

    def __init__(self, way: Way, port: str, **places: str) -> None:
        self.name = way.name
        self._words = [word.format(port=port, **places) for word in way.watcher]

    def __enter__(self) -> Watcher:  # noqa: PYI034  (Self came with 3.11)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.seeing_watchers", *self._words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        assert self._process.stdout is not None
        if self._process.stdout.readline().strip() != "ready":
            _, errors = self._process.communicate()
            raise RuntimeError(f"{self.name}: {errors[-400:]}")
        return self

    def end(self) -> int:
        """End it; returns how often it looked."""
        self._process.terminate()
        text, _ = self._process.communicate(timeout=20)
        return int(text.split()[-1]) if text.split() else 0

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()


def report(result: dict[str, Any], *, markdown: bool = False) -> str:
    """Write the table: each way, and what is left of the req/s of a server that nobody looks at."""
    measured = result["summary"].get(WORKLOAD.name, {})
    base = measured.get("off", {})
    rows = []
    for name in result["settings"]["ways"]:
        if name not in measured:
            continue
        one = measured[name]
        kept = ratio(one, base, "requests_per_s")
        cells = [tables.cell(one.get(key)) for key in ("requests_per_s", "server_cpu_ms")]
        title = (
            WAYS[name].title
            if name in WAYS
            else {"off": "nobody looks", "all": "all of them"}[name]
        )
        rows.append([title, *cells, f"{kept:.1%}", f"{ratio(one, base, 'server_cpu_ms'):.2f}x"])
    head = [
        f"no-op, {WORKLOAD.connections} connections",
        "req/s",
        "CPU ms/req",
        "of req/s",
        "of CPU",
    ]
    parts = [tables.grid(head, rows, markdown=markdown)]
    whole = measured.get("all")
    if whole and base:
        kept = ratio(whole, base, "requests_per_s")
        verdict = "reached" if kept >= LIMIT else "missed"
        parts.append(
            f"With all of them {kept:.1%} of the req/s are left; the target is {LIMIT:.0%}: {verdict}."
        )
    told = tables.failures(result["runs"])
    return "\n\n".join([*parts, f"Failed\n\n{told}"] if told else parts)


def ratio(one: dict[str, Any], base: dict[str, Any], figure: str) -> float:
    """Compare two medians."""
    if figure not in one or figure not in base:
        return 0.0
    return float(one[figure]["median"] / base[figure]["median"])
