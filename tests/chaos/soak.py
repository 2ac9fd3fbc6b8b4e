# SPDX-License-Identifier: Apache-2.0
"""The soak: many clients, every kind of work, a kill every second, for as long as wanted. What is not right is told at the end.

    python -m tests.chaos.soak 600 --seed 7 --clients 64

Promises looked at: each request has its own answer once (checksums, ids), or a refusal that says so (503 with `Retry-After`,
504), or a broken connection where its front was killed or its stream's worker died; none is run twice unless it asks for it; at
the end no entry, block, descriptor or process stays, and memory did not grow.

Flow:  test_soak.py | __main__ -> **soak** -> Report
Owns:  the server that it starts, its clients' connections, and a file of runs in a temporary folder.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import contextlib
import hashlib
import json
import os
import random
import re
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.chaos.holders import held_blocks
from tests.chaos.soak_report import (
    Report,
    Sample,
    children_of,
    command_of,
    count_descriptors,
    has_open,
    memory_kib,
)
from tests.chaos.wire import Answer, Broken, Connection, request_bytes
from tests.integration.processes import descendants, living

from cubbyhole.testing.serving import serving

if TYPE_CHECKING:
    from cubbyhole.testing.serving import Served

SERVER = Path(__file__).with_name("soak_server.py")
FRONTS = 2
KILL_EVERY_S = 1.0
FRONT_KILL_EVERY = 7  # kills; the others hit workers
NEVER_ANSWERED_S = 40.0  # the server's own limit is 10 s
NEAR_S = 5.0  # how late this process may notice a death that it caused, on a busy machine
SMALL, LARGE = (10, 2_000, 60_000), (4_096, 70_000, 1_500_000, 4_000_000)
SLEEPS_S = (0, 0.005, 0.02, 0.1)  # so that a worker that is killed mostly holds something
STORE = random.Random(1).randbytes(6_000_000)
KINDS = ("plain", "plain", "again", "batched", "streamed", "binary", "async", "async-stream")


class Question:
    """One request, and what its answer must be."""

    def __init__(self, name: str, kind: str, chance: random.Random) -> None:
        self.name = name
        self.kind = kind
        self.lines = 0
        sleep_s = chance.choice(SLEEPS_S)
        if kind == "binary":
            data = name.ljust(24).encode() + _some_bytes(chance, LARGE)
            self.wire = request_bytes("/binary", data, "application/octet-stream")
            self._expected = hashlib.sha256(data).digest() + data
            return
        sent: dict[str, Any] = {"id": name, "sleep_s": sleep_s}
        if kind.endswith(("streamed", "stream")):
            self.lines = sent["lines"] = chance.randrange(1, 300)
            self._expected = "".join(f"{name} {n}\n" for n in range(self.lines)).encode()
        else:
            text = _some_bytes(chance, SMALL).hex()
            sent |= {"data": text, "sum": hashlib.sha256(text.encode()).hexdigest()}
            self._expected = b""
        self._sent = sent
        self.wire = request_bytes(f"/{kind}", json.dumps(sent).encode())

    def is_own(self, body: bytes) -> bool:
        """Whether this is the answer to this question and to no other."""
        if self._expected:
            return body == self._expected
        got = json.loads(body)
        return bool(
            got == self._sent and hashlib.sha256(got["data"].encode()).hexdigest() == got["sum"]
        )


class Soak:
    """One run."""

    def __init__(self, server: Served, runs: Path, report: Report, clients: int) -> None:
        self._server = server
        self._runs = runs
        self.report = report
        self._clients = clients
        self._chance = random.Random(report.seed)
        self._stop = False
        self._front_kills: dict[int, float] = {}  # pid -> when
        self._worker_kills: list[float] = []
        self._answered: set[str] = set()

    async def run(self) -> None:
        """Warm up, run, and look at what is left."""
        for number in range(8 * FRONTS):
            await self._client(-1 - number, len(KINDS))
        await self._settle("after the warm-up", {})
        before = dict(self.report.held["after the warm-up"])
        descriptors = self._descriptors()
        clients = [asyncio.create_task(self._client(n)) for n in range(self._clients)]
        await self._kill_and_sample()
        self._stop = True
        _, hanging = await asyncio.wait(clients, timeout=NEVER_ANSWERED_S + 5)
        if hanging:
            self.report.wrong.append(f"{len(hanging)} clients never ended")
        for task in clients:
            task.cancel()
            if task.done() and not task.cancelled() and task.exception() is not None:
                self.report.wrong.append(f"client failed: {task.exception()!r}")
        await self._settle("at the end", before)
        await self._look_at_descriptors(descriptors)
        self._look_at_runs()

    async def _client(self, number: int, count: int = sys.maxsize) -> None:
        chance = random.Random(self.report.seed * 1000 + number)
        connection = Connection(self._server.url)
        for asked in range(count):
            if self._stop:
                break
            kind = KINDS[asked % len(KINDS)] if count != sys.maxsize else chance.choice(KINDS)
            await self._ask(connection, Question(f"{number}-{asked}-{kind}", kind, chance))
        await connection.close()

    async def _ask(self, connection: Connection, question: Question) -> None:
        begun_s = time.monotonic()
        try:
            answer = await asyncio.wait_for(connection.ask(question.wire), NEVER_ANSWERED_S)
            outcome = self._judge(question, answer)
        except asyncio.TimeoutError:
            outcome = f"WRONG never answered: {question.kind}"
            await connection.close()
        except Broken as error:
            outcome = self._judge_break(question, connection.front, begun_s, error)
        if outcome.startswith("WRONG"):
            self.report.wrong.append(f"{question.name}: {outcome}")
        self.report.counts[outcome if not outcome.startswith("WRONG") else "wrong"] += 1

    def _judge(self, question: Question, answer: Answer) -> str:
        if answer.status == 200:
            if not question.is_own(answer.body):
                return f"WRONG answer to {question.kind}: {answer.body[:80]!r}"
            self._answered.add(question.name)
            return f"{question.kind}:ok"
        if answer.status == 503 and int(answer.headers.get("retry-after", "0")) >= 1:
            return f"{question.kind}:503"
        if answer.status == 504:
            return f"{question.kind}:504"
        if answer.status == 500 and question.kind == "again" and b"not tried again" in answer.body:
            return "again:poison"
        return f"WRONG status of {question.kind}: {answer.status} {answer.body[:120]!r}"

    def _judge_break(self, question: Question, front: int, begun_s: float, error: Broken) -> str:
        if front in self._front_kills:
            return f"{question.kind}:front killed"
        recent = [at_s for at_s in self._front_kills.values() if at_s > begun_s - NEAR_S]
        if not front and recent:  # accepted by one that died before it could say who it is
            return f"{question.kind}:front killed"
        if question.lines and any(at_s > begun_s - NEAR_S for at_s in self._worker_kills):
            return f"{question.kind}:broken off"
        return f"WRONG break of {question.kind} at front {front} without a kill: {error}"

    async def _kill_and_sample(self) -> None:
        end_s = time.monotonic() + self.report.seconds
        kill = 0
        while time.monotonic() < end_s:
            await asyncio.sleep(KILL_EVERY_S)
            self._sample()
            kill += 1
            fronts, workers = self._children()
            # One that dies before it was ever ready, again and again, ends the server; that is a promise of its own.
            workers = [pid for pid in workers if has_open(pid, self._runs)]
            if kill % FRONT_KILL_EVERY == 0 and fronts:
                victim = self._chance.choice(fronts)
                self._front_kills[victim] = time.monotonic()
                self._kill(victim, "front")
            elif workers:
                self._worker_kills.append(time.monotonic())
                self._kill(self._chance.choice(workers), "worker")

    def _kill(self, pid: int, role: str) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            self.report.kills[role] += 1

    def _children(self) -> tuple[list[int], list[int]]:
        """Return the fronts, which are forked and so have the supervisor's command line, and the workers."""
        mine = command_of(self._server.pid)
        children = children_of(self._server.pid)
        fronts = [pid for pid in children if command_of(pid) == mine]
        return fronts, [pid for pid in children if pid not in fronts]

    def _front_pids(self) -> list[int]:
        return self._children()[0]

    def _sample(self) -> None:
        fronts, workers = self._children()
        everybody = [self._server.pid, *fronts, *workers]
        private = {pid: memory_kib(pid) for pid in everybody}
        self.report.samples.append(
            Sample(
                time.monotonic(),
                private[self._server.pid][0],
                sum(private[pid][0] for pid in fronts if pid in private),
                sum(pss for _, pss in private.values()),
            )
        )

    async def _settle(self, when: str, before: dict[str, int]) -> None:
        """Wait until nothing is held any more than `before`; what is held then stands in the report."""
        connection = Connection(self._server.url)
        now: dict[str, int] = {}
        for _ in range(100):
            with contextlib.suppress(Broken):
                answer = await connection.ask(b"GET /held HTTP/1.1\r\nHost: a\r\n\r\n")
                now = json.loads(answer.body)
                if now["slots"] == 0 and all(now[n] <= before.get(n, 10**12) for n in now):
                    break
            await asyncio.sleep(0.1)
        else:
            self.report.wrong.append(f"held {when}: {now}, before: {before}")
            self.report.wrong += held_blocks(self._server.pid)
        self.report.held[when] = now
        await connection.close()

    def _descriptors(self) -> dict[str, int]:
        fronts, workers = self._children()
        return {
            "supervisor": count_descriptors(self._server.pid),
            "fronts": max((count_descriptors(pid) for pid in fronts), default=0),
            "processes": len(fronts) + len(workers),
        }

    async def _look_at_descriptors(self, before: dict[str, int]) -> None:
        """The last kill's victim may not have its successor yet, and connections take a moment to go."""
        for _ in range(100):
            now = self._descriptors()
            if now == before:
                break
            await asyncio.sleep(0.1)
        self.report.descriptors = {f"{name}_before": count for name, count in before.items()} | now
        if any(now[name] > before[name] for name in before) or (
            now["processes"] != before["processes"]
        ):
            self.report.wrong.append(f"descriptors or processes: {now}, before: {before}")

    def _look_at_runs(self) -> None:
        runs = collections.Counter(self._runs.read_text().split())
        self.report.counts["runs"] = sum(runs.values())
        never = self._answered - set(runs)
        if never:
            self.report.wrong.append(f"answered without a run: {sorted(never)[:5]}")
        # "again" asks to be run again, and only when its worker died; each name has its kind in it.
        twice = [name for name, count in runs.items() if count > 1]
        self.report.counts["run again"] = len(twice)
        self.report.wrong += [
            f"run {runs[name]} times: {name}" for name in twice if not name.endswith("-again")
        ]


def _some_bytes(chance: random.Random, sizes: tuple[int, ...]) -> bytes:
    """Slice them from one store: making them would take the CPU from the server."""
    size = chance.choice(sizes)
    start = chance.randrange(len(STORE) - size)
    return STORE[start : start + size]


def soak(seconds: float, *, seed: int, clients: int = 64, channel: str = "shm") -> Report:
    """Run it. The report's `wrong` must be empty."""
    report = Report(seed, seconds)
    with tempfile.TemporaryDirectory() as folder:
        runs = Path(folder) / "runs"
        environment = {"SOAK_RUNS": str(runs), "TEST_CHANNEL": channel}
        arguments = ["--fronts", str(FRONTS)]
        with serving(
            f"{SERVER}:soak", arguments=arguments, environment=environment, timeout_s=60
        ) as server:
            with contextlib.suppress(ConnectionError):
                asyncio.run(Soak(server, runs, report, clients).run())
            if server.process is None or server.process.poll() is not None:
                report.wrong.insert(0, f"the server ended: {server.output()[-1500:]}")
                return report
            children = descendants(server.pid)
            if server.stop() != 0:
                report.wrong.append(f"exit code: {server.output()[-500:]}")
            if living(children):
                report.wrong.append(f"processes left: {living(children)}")
            report.wrong += _look_at_log(server.output(), report.kills, runs)
    return report


def _look_at_log(output: str, kills: collections.Counter[str], runs: Path) -> list[str]:
    """Who is not killed must not die, and nothing may be raised that nobody expected."""
    found = [f"logged: {line}" for line in output.splitlines() if "Traceback" in line]
    for role in ("front", "worker"):
        replaced = output.count(f" {role} replaced: ")
        if replaced != kills[role]:
            found.append(f"{kills[role]} kills of a {role}, but {replaced} were replaced")
    for line, pid in re.findall(r"(worker stalled: .*pid=(\d+).*)", output):
        stacks = Path(f"{runs}.{pid}")  # its own, from before it was ended
        found.append(f"{line}\n{stacks.read_text()[-3000:] if stacks.exists() else ''}")
    return found


def main() -> int:
    """Run from a command line."""
    parser = argparse.ArgumentParser(description="Kills under load for a long time.")
    parser.add_argument("seconds", type=float, nargs="?", default=600.0)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--channel", default="shm")
    asked = parser.parse_args()
    report = soak(asked.seconds, seed=asked.seed, clients=asked.clients, channel=asked.channel)
    print(report.text())  # noqa: T201  a command line
    return bool(report.wrong)


if __name__ == "__main__":
    sys.exit(main())
