# SPDX-License-Identifier: Apache-2.0
"""Who is measured, and with which load; `Serving` is one server under measurement.

Owns:  the server's process and its log under `.bench/`, until `__exit__`.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.job import Job
from bench.load import Question
from bench.processes import cpu_by_process_s, end_tree, tree
from bench.venvs import HOME, ROOT, ensure

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

_START_LIMIT_S = 30.0


@dataclass(frozen=True)
class Contender:
    name: str
    venv: str
    script: str
    path: str = "/predict"
    words: tuple[str, ...] = ()


CONTENDERS = {
    c.name: c
    for c in (
        Contender("cubbyhole", "cubbyhole", "cubbyhole_server.py"),
        Contender("litserve", "litserve", "litserve_server.py"),
        Contender("litserve-fast", "litserve", "litserve_server.py", words=("fast",)),
        Contender("mosec", "mosec", "mosec_server.py", "/inference"),
        Contender("fastapi", "fastapi", "fastapi_server.py"),
        Contender("bare", "bare", "bare_server.py"),
        *(
            Contender(f"cubbyhole-{kind}", "cubbyhole", "cubbyhole_server.py", words=(kind,))
            for kind in ("sockets", "pipes", "manager", "zmq")
        ),
    )
}
DEFAULT = ["cubbyhole", "litserve", "mosec", "fastapi", "bare"]


@dataclass(frozen=True)
class Workload:
    """`server` is what the server is started with; `ideal_per_s` what no server can exceed, 0 where there is none."""

    name: str
    server: str
    kind: str
    connections: int
    size_bytes: int = 0
    ideal_per_s: float = 0.0
    title: str = ""


WORKLOADS = {
    w.name: w
    for w in (
        Workload("noop-1", "noop", "json", 1, title="no-op JSON, 1 connection"),
        Workload("noop-32", "noop", "json", 32, title="no-op JSON, 32 connections"),
        Workload("noop-128", "noop", "json", 128, title="no-op JSON, 128 connections"),
        Workload("raw-64k", "raw", "raw", 4, 65536, title="64 KiB array in and out, 4 connections"),
        Workload("raw-4m", "raw", "raw", 4, 4 << 20, title="4 MiB array in and out, 4 connections"),
        Workload("sleep-4", "sleep", "json", 64, 0, 800.0, "5 ms model, 4 workers, 64 connections"),
        Workload("idle", "batch", "idle", 0, title="idle, batching on"),
        Workload(
            "batch-32", "batch", "json", 128, 0, 3200.0, "batch of 32 at 10 ms, 128 connections"
        ),
        Workload(
            "stream-16", "stream", "stream", 16, title="streams of 100 chunks, 16 connections"
        ),
    )
}


def free_port() -> int:
    """Return a port that nobody has now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class Serving:
    """A running server: `with Serving(contender, "noop") as s: s.load(workload, ...)`."""

    def __init__(self, contender: Contender, server: str, python: Path | None = None) -> None:
        self.contender = contender
        self.server = server
        self.python = python
        self.port = free_port()
        self.start_s = 0.0

    def __enter__(self) -> Serving:  # noqa: PYI034  (Self came with 3.11)
        self.python = self.python or ensure(self.contender.venv)
        self._tmp = tempfile.mkdtemp(prefix="bench-")
        (HOME / "logs").mkdir(parents=True, exist_ok=True)
        self._log_path = HOME / "logs" / f"{self.contender.name}-{self.server}.log"
        script = ROOT / "bench" / "servers" / self.contender.script
        words = [str(script), self.server, str(self.port), *self.contender.words]
        with self._log_path.open("wb") as log:
            begun = time.monotonic()
            self.process = subprocess.Popen(
                [str(self.python), *words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self._tmp,
                env={**os.environ, "TMPDIR": self._tmp, "PYTHONUNBUFFERED": "1"},
                start_new_session=True,
            )
        try:
            self._wait(begun)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def _wait(self, begun: float) -> None:
        kind = {"raw": "raw", "stream": "stream"}.get(self.server, "json")
        question = Question(
            Job(self.port, self.contender.path, kind, 1, 0.0, 0.0, size_bytes=4096), 0
        )
        wire = question.wire.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1)
        while time.monotonic() - begun < _START_LIMIT_S:
            if self.process.poll() is not None:
                raise RuntimeError(f"{self.contender.name} ended by itself:\n{self.log_tail()}")
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=5) as sock:
                    sock.sendall(wire)
                    answer = b"".join(iter(lambda: sock.recv(1 << 20), b""))
            except OSError:
                answer = b""
            if b" 200" in answer[:16] and self._first_right(question, answer):
                self.start_s = time.monotonic() - begun
                return
            time.sleep(0.005)
        raise RuntimeError(
            f"{self.contender.name} gave no right answer within {_START_LIMIT_S:.0f} s:\n{self.log_tail()}"
        )

    @staticmethod
    def _first_right(question: Question, answer: bytes) -> bool:
        body = answer.partition(b"\r\n\r\n")[2]
        # A stream's framing would have to be undone here; the load generator does that, the first token is enough.
        return question.expected[0] in body if question.kind == "stream" else question.right(body)

    def log_tail(self) -> str:
        return self._log_path.read_text(errors="replace")[-2000:]

    def load(self, workload: Workload, seconds: float, warmup_s: float) -> dict[str, Any]:
        """Run one workload against the server."""
        if workload.kind == "idle":
            return self._idle(seconds)
        job = {
            "port": self.port,
            "path": self.contender.path,
            "kind": workload.kind,
            "connections": workload.connections,
            "warmup_s": warmup_s,
            "seconds": seconds,
            "size_bytes": workload.size_bytes,
            "root_pid": self.process.pid,
        }
        done = subprocess.run(
            [sys.executable, "-m", "bench.load"],
            input=json.dumps(job),
            capture_output=True,
            text=True,
            cwd=ROOT,
            check=False,
            timeout=seconds + warmup_s + 60,
        )
        if done.returncode:
            return {"failures": 1, "requests": 0, "example": done.stderr[-500:]}
        result: dict[str, Any] = json.loads(done.stdout)
        if workload.ideal_per_s:
            result["of_ideal"] = result["requests_per_s"] / workload.ideal_per_s
        return result

    def _idle(self, seconds: float) -> dict[str, Any]:
        time.sleep(1.0)
        before, begun = cpu_by_process_s(self.process.pid), time.monotonic()
        time.sleep(max(seconds, 3.0))
        after, took_s = cpu_by_process_s(self.process.pid), time.monotonic() - begun
        used = sum(after[pid] - before.get(pid, 0.0) for pid in after)
        return {
            "requests": 0,
            "failures": 0,
            "idle_percent": 100 * used / took_s,
            "processes": len(after),
        }

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        end_tree(self.process.pid)
        self.process.wait()
        left = tree(self.process.pid)
        shutil.rmtree(self._tmp, ignore_errors=True)
        if left:
            print(f"bench: {self.contender.name} left processes {left}", file=sys.stderr)
