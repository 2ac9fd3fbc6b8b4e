# SPDX-License-Identifier: Apache-2.0
"""`python -m bench seeing`: what it costs a server to be seen. The no-op, with each way to look switched on, and with all of them.

All servers live at the same time; one of them has load, for two seconds, and nobody looks at the others meanwhile. Each turn of a way
stands between two of the server that nobody looks at, and is compared with their mean: a machine whose speed drifts, as a virtual one
does by a half within a minute, gives ratios all the same. A ratio of one turn is still good for a tenth only, so there are many, and
what counts is their mean (of logarithms: 0.9 and 1/0.9 are no change), told with its standard error. That of all ways together, which
is what the target is about, has three times as many as the others. Each round has new servers: of two that were started with the same
words one may be a twentieth slower than the other, for as long as they live. A way that this version of `cubbyhole serve` does not offer
is named and left out. Whoever looks is a process of its own: it takes CPU from the server on a small machine, which req/s show, and
costs the server itself what CPU per request shows.

Flow:  __main__.py -> **seeing_command.py** -> contenders.Serving (seen_server.py), seeing_watchers.py -> results/seeing.json
"""

from __future__ import annotations

import inspect
import math
import os
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import machine, tables
from bench.contenders import WORKLOADS, Contender, Serving, free_port
from bench.processes import cpu_by_process_s
from bench.venvs import ROOT

if TYPE_CHECKING:
    import argparse
    from collections.abc import Generator

WORKLOAD = WORKLOADS["noop-32"]
LIMIT = 0.95  # of the req/s of a server that nobody looks at
WARM_S = 0.5
SETTLE_S = 0.3  # of each turn: whoever looks does so at its begin, and then each second
RATIOS = {"requests_per_s": "of_requests_per_s", "server_cpu_ms": "of_server_cpu_ms"}


@dataclass(frozen=True)
class Way:
    """A way to see a server.

    Attributes:
        option: The parameter of `cubbyhole serve` without which it is not there; empty: it always is.
        words: Further words of the command line; {port} is a free one.
        watcher: What seeing_watchers.py does; empty: nobody looks. {server} is the server's port, {pid} its process.
        asked_for: It is measured by itself and is no part of "all of them": nobody has it without asking for just this, or it is another
            form of one that is.
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
        Way("observer", "top's picture and stats, each second", watcher=("observe", "{pid}")),
        Way("screen", "the screen of top, in a terminal", watcher=("screen", "{pid}"), asked_for=True),
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
    parser.add_argument(
        "--repeat", type=int, default=12, metavar="N", help="rounds, each with new servers"
    )
    parser.add_argument("--seconds", type=float, default=2.0, metavar="S", help="of each turn")
    parser.add_argument("--name", default="seeing", help="bench/results/NAME.json")


def run(arguments: argparse.Namespace) -> int:
    os.environ["PYTHONPATH"] = str(ROOT / "src")
    # Spans are sent in each turn; unless told it is every 5 seconds.
    os.environ["OTEL_BSP_SCHEDULE_DELAY"] = str(int(1000 * arguments.seconds))
    names = [name for name in arguments.only.split(",") if name]
    unknown = [name for name in names if name not in WAYS]
    if unknown:
        raise SystemExit(f"bench: no way {', '.join(unknown)}. There are: {', '.join(WAYS)}.")
    offered = [WAYS[name] for name in names if WAYS[name].offered]
    missing = [name for name in names if not WAYS[name].offered]
    if missing:
        print(f"bench: left out, as this version has no such option: {', '.join(missing)}")
    wanted: dict[str, list[Way]] = {way.name: [way] for way in offered}
    together = [way for way in offered if not way.asked_for]
    if len(together) > 1:
        wanted["all"] = together
    settings = {
        "seconds": arguments.seconds,
        "repeat": arguments.repeat,
        "ways": ["off", *wanted],
    }
    result = {"kind": "seeing", "name": arguments.name, **machine.record(settings)}
    runs = [
        {"repeat": number, "workload": WORKLOAD.name, **one}
        for number in range(arguments.repeat)
        for one in take_turns(wanted, number, arguments.seconds)
    ]
    result["runs"] = runs
    result["missing"] = missing
    result["summary"] = tables.summarize(runs)
    path = machine.save(result, arguments.name)
    print(report(result))
    print(f"\n{path.relative_to(ROOT)} written.")
    return 1 if any(one["failures"] for one in runs) else 0


def take_turns(
    wanted: dict[str, list[Way]], number: int, seconds: float
) -> Generator[dict[str, Any], None, None]:
    """Start a server for each way, and one that nobody looks at; give what is measured, turn after turn."""
    with ExitStack() as stack:
        base = stack.enter_context(Seen("off", []))
        seen = [stack.enter_context(Seen(name, ways)) for name, ways in wanted.items()]
        for one in (base, *seen):  # connections, pools and caches are there from the first turn on
            one.turn(WARM_S)
        before = base.turn(seconds)
        yield before
        for one in _in_turn(seen, number):
            print(f"bench: round {number + 1}, {one.name}", file=sys.stderr)
            found, after = one.turn(seconds), base.turn(seconds)
            _compare(found, before, after)
            yield found
            yield after
            before = after
        for one in seen:
            yield from one.blind()


def _in_turn(seen: list[Seen], number: int) -> list[Seen]:
    """Each way once, another one first in each round; all of them together after every second one."""
    together = [one for one in seen if one.name == "all"]
    single = [one for one in seen if one.name != "all"]
    shift = number % len(single)
    order = single[shift:] + single[:shift]
    return [one for at in range(0, len(order), 2) for one in (*order[at : at + 2], *together)]


def _compare(found: dict[str, Any], before: dict[str, Any], after: dict[str, Any]) -> None:
    for figure, ratio in RATIOS.items():
        if all(figure in one for one in (found, before, after)):
            found[ratio] = found[figure] / math.sqrt(before[figure] * after[figure])


class Seen:
    """A server, and who looks at it while it has its turn."""

    def __init__(self, name: str, ways: list[Way]) -> None:
        self.name = name
        self._ways = ways

    def __enter__(self) -> Seen:  # noqa: PYI034  (Self came with 3.11)
        ports = {way.name: str(free_port()) for way in self._ways}
        words = [word.format(port=ports[way.name]) for way in self._ways for word in way.words]
        contender = Contender(
            f"seen-{self.name}", "cubbyhole", "seen_server.py", words=tuple(words)
        )
        with ExitStack() as stack:
            # Who collects has to be there first, who looks at a server must find it there.
            early = [way for way in self._ways if way.watcher[:1] == ("collect",)]
            self._watchers = [stack.enter_context(Watcher(way, ports[way.name])) for way in early]
            self._serving = stack.enter_context(Serving(contender, "noop", Path(sys.executable)))
            places = {"server": str(self._serving.port), "pid": str(self._serving.process.pid)}
            late = [way for way in self._ways if way.watcher and way not in early]
            self._watchers += [
                stack.enter_context(Watcher(way, ports[way.name], **places)) for way in late
            ]
            self._stack = stack.pop_all()
        return self

    def turn(self, seconds: float) -> dict[str, Any]:
        begun_s, used_s = time.monotonic(), self._looking_s()
        for watcher in self._watchers:
            watcher.tell("look")
        try:
            found = self._serving.load(WORKLOAD, seconds, SETTLE_S)
        finally:
            for watcher in self._watchers:
                watcher.tell("rest")
        looking = (self._looking_s() - used_s) / (time.monotonic() - begun_s)
        return {"contender": self.name, **found, "looking_cpu_ms": 1000 * looking}

    def _looking_s(self) -> float:
        """Return the CPU that those who look have used."""
        return sum(sum(cpu_by_process_s(watcher.pid).values()) for watcher in self._watchers)

    def blind(self) -> Generator[dict[str, Any], None, None]:
        """End the watchers; give a failure for each that saw nothing."""
        for watcher in self._watchers:
            if not watcher.end():
                failure = {"failures": 1, "example": f"nothing was seen by {watcher.name}"}
                yield {"contender": self.name, **failure}

    def __exit__(self, *_: object) -> None:
        self._stack.close()


class Watcher:
    """A process that looks at the server."""

    def __init__(self, way: Way, port: str, **places: str) -> None:
        self.name = way.name
        self._words = [word.format(port=port, **places) for word in way.watcher]

    def __enter__(self) -> Watcher:  # noqa: PYI034  (Self came with 3.11)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.seeing_watchers", *self._words],
            stdin=subprocess.PIPE,
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

    @property
    def pid(self) -> int:
        return self._process.pid

    def tell(self, word: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(word + "\n")
        self._process.stdin.flush()

    def end(self) -> int:
        """End it; returns how often it looked."""
        text, _ = self._process.communicate(timeout=20)
        return int(text.split()[-1]) if text.split() else 0

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()


def report(result: dict[str, Any], *, markdown: bool = False) -> str:
    """Write the table: each way, and what is left of the req/s of a server that nobody looks at."""
    measured = result["summary"].get(WORKLOAD.name, {})
    ratios = {
        name: [_mean(result["runs"], name, ratio) for ratio in RATIOS.values()] for name in measured
    }
    rows = []
    for name in result["settings"]["ways"]:
        if name not in measured:
            continue
        one = measured[name]
        cells = [tables.cell(one.get(key)) for key in RATIOS]
        title = (
            WAYS[name].title
            if name in WAYS
            else {"off": "nobody looks", "all": "all of them"}[name]
        )
        looking = tables.cell(one.get("looking_cpu_ms")) if name != "off" else "-"
        rows.append([title, *cells, *map(_told, ratios[name]), looking])
    head = [
        f"no-op, {WORKLOAD.connections} connections",
        "req/s",
        "CPU ms/req",
        "of req/s",
        "of CPU",
        "who looks: CPU ms/s",
    ]
    parts = [tables.grid(head, rows, markdown=markdown)]
    whole = ratios.get("all", [None])[0]
    if whole is not None:
        verdict = "reached" if whole[0] >= LIMIT else "missed"
        parts.append(
            f"With all of them {whole[0]:.1%} of the req/s are left; the target is {LIMIT:.0%}: {verdict}."
        )
    told = tables.failures(result["runs"])
    return "\n\n".join([*parts, f"Failed\n\n{told}"] if told else parts)


def _mean(runs: list[dict[str, Any]], name: str, ratio: str) -> tuple[float, float] | None:
    """Return the mean of a way's ratios, and its standard error; None without any."""
    logs = [math.log(run[ratio]) for run in runs if run["contender"] == name and ratio in run]
    if not logs:
        return None
    mean = math.exp(statistics.fmean(logs))
    error = statistics.stdev(logs) / math.sqrt(len(logs)) if len(logs) > 1 else math.inf
    return mean, mean * error


def _told(mean: tuple[float, float] | None) -> str:
    return "-" if mean is None else f"{mean[0]:.1%} ± {mean[1]:.1%}"
