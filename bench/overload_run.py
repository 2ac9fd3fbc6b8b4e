# SPDX-License-Identifier: Apache-2.0
"""The client of `bench overload`: an open loop, which sends at its own pace whatever comes back.

Requests are sent at the moments of a Poisson process with a fixed seed, each on a connection that is idle, or on a new one. A
latency counts from the moment at which the request was due, so that a server that stalls, or a client that cannot keep up, makes its
own figures worse and hides nothing.

Flow:  overload_command.py -> `python -m bench.overload_run` (Pace as JSON on stdin) -> result as JSON on stdout
Owns:  its connections, for one run.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import resource
import sys
import time
from dataclasses import dataclass, field
from typing import Any

from cubbyhole.measuring.tables import percentile

SEED = 5
GRACE_S = 5.0  # for what is under way at the end
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CLOSES = re.compile(rb"\r\nconnection: *close", re.IGNORECASE)
REFUSALS = frozenset((429, 503))


@dataclass
class Pace:
    """What to send."""

    port: int
    path: str
    rate_per_s: float
    seconds: float
    most_connections: int = 1500  # then a request is not sent, which is counted


@dataclass
class Seen:
    """What came of it; latencies in ns."""

    offered: int = 0
    accepted_ns: list[int] = field(default_factory=list)
    refused_ns: list[int] = field(default_factory=list)
    late_ns: list[int] = field(default_factory=list)  # how much later than due a request was sent
    other: dict[int, int] = field(default_factory=dict)  # further statuses
    wrong: int = 0
    broken: int = 0  # connections that ended in the middle
    not_sent: int = 0


class Link(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._transport: Any = None
        self._buffer = b""
        self._due_ns = 0
        self._value = 0
        self.busy = False

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def ask(self, value: int, due_ns: int) -> None:
        self._value, self._due_ns, self._buffer, self.busy = value, due_ns, b"", True
        body = b'{"input": %d}' % value
        self._transport.write(self._client.head % len(body) + body)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, split, body = self._buffer.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if not self.busy or not split or length is None or len(body) < int(length[1]):
            return
        self.busy = False
        self._client.note(int(head[9:12]), body, self._value, self._due_ns)
        if _CLOSES.search(head):
            self._transport.close()
        else:
            self._client.idle.append(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._client.forget(self)


class Client:
    """Sends, and notes."""

    def __init__(self, pace: Pace) -> None:
        self.pace = pace
        self.seen = Seen()
        self.idle: list[Link] = []
        self.head = (
            f"POST {pace.path} HTTP/1.1\r\nHost: 127.0.0.1:{pace.port}\r\n"
            "Content-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        ).encode()
        self._links: set[Link] = set()
        self._opening: set[asyncio.Task[None]] = set()

    def note(self, status: int, body: bytes, value: int, due_ns: int) -> None:
        took_ns = time.perf_counter_ns() - due_ns
        if status == 200:
            self.seen.accepted_ns.append(took_ns)
            self.seen.wrong += json.loads(body) != {"output": value * value}
        elif status in REFUSALS:
            self.seen.refused_ns.append(took_ns)
        else:
            self.seen.other[status] = self.seen.other.get(status, 0) + 1

    def forget(self, link: Link) -> None:
        self.seen.broken += link.busy
        link.busy = False
        self._links.discard(link)
        if link in self.idle:
            self.idle.remove(link)

    def send(self, value: int, due_ns: int) -> None:
        self.seen.offered += 1
        self.seen.late_ns.append(time.perf_counter_ns() - due_ns)
        if self.idle:
            self.idle.pop().ask(value, due_ns)
        elif len(self._links) + len(self._opening) >= self.pace.most_connections:
            self.seen.not_sent += 1
        else:
            task = asyncio.get_running_loop().create_task(self._open(value, due_ns))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    async def _open(self, value: int, due_ns: int) -> None:
        loop = asyncio.get_running_loop()
        try:
            _, link = await loop.create_connection(lambda: Link(self), "127.0.0.1", self.pace.port)
        except OSError:
            self.seen.broken += 1
            return
        self._links.add(link)
        link.ask(value, due_ns)

    async def run(self) -> dict[str, Any]:
        chance = random.Random(SEED)
        begun_ns = time.perf_counter_ns()
        due_ns = float(begun_ns)
        end_ns = begun_ns + self.pace.seconds * 1e9
        value = 0
        while due_ns < end_ns:
            now_ns = time.perf_counter_ns()
            while due_ns <= now_ns and due_ns < end_ns:
                value = (value + 1) % 1000
                self.send(value, int(due_ns))
                due_ns += chance.expovariate(self.pace.rate_per_s) * 1e9
            await asyncio.sleep(max(0.0, (due_ns - time.perf_counter_ns()) / 1e9))
        until_s = time.monotonic() + GRACE_S
        while self._under_way() and time.monotonic() < until_s:  # noqa: ASYNC110  (it looks, nobody tells)
            await asyncio.sleep(0.02)
        return self._summary(self._under_way())

    def _under_way(self) -> int:
        return sum(link.busy for link in self._links) + len(self._opening)

    def _summary(self, unanswered: int) -> dict[str, Any]:
        seen = self.seen
        offered = max(seen.offered, 1)
        lost = seen.wrong + seen.broken + sum(seen.other.values())
        return {
            "offered": seen.offered,
            "offered_per_s": seen.offered / self.pace.seconds,
            "accepted_per_s": len(seen.accepted_ns) / self.pace.seconds,
            "accepted_p50_ms": _percentile(seen.accepted_ns, 0.50) / 1e6,
            "accepted_p99_ms": _percentile(seen.accepted_ns, 0.99) / 1e6,
            "refused_percent": 100 * len(seen.refused_ns) / offered,
            "refused_p50_ms": _percentile(seen.refused_ns, 0.50) / 1e6,
            "refused_p99_ms": _percentile(seen.refused_ns, 0.99) / 1e6,
            "unanswered_percent": 100 * (unanswered + seen.not_sent) / offered,
            "broken_percent": 100 * lost / offered,
            "client_late_p99_ms": _percentile(seen.late_ns, 0.99) / 1e6,
            "wrong": seen.wrong,
            "statuses": seen.other,
        }


def _percentile(values: list[int], share: float) -> float:
    return percentile(sorted(values), share)


def main() -> None:
    pace = Pace(**json.loads(sys.stdin.read()))
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    json.dump(asyncio.run(Client(pace).run()), sys.stdout)


if __name__ == "__main__":
    main()
