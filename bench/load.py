# SPDX-License-Identifier: Apache-2.0
"""The load generator: N keep-alive connections, closed loop, every answer checked.

One process, one epoll, plain sockets: about 15 us of CPU a request, most of it the kernel's loopback, which is less
than any asyncio client (uvloop: about 30 us). Its own CPU is in the result, because on two cores it competes with
the server it measures. Each connection asks for its own values, so an answer that belongs to another request is seen.

Flow:  servers_command.py -> `python -m bench.load` (job as JSON on stdin) -> result as JSON on stdout
Owns:  its sockets, for one run.
"""

from __future__ import annotations

import array
import json
import re
import select
import socket
import sys
import time
from typing import Any

from bench.figures import summary
from bench.job import CHUNKS, Job, Tally
from bench.processes import cpu_by_process_s, machine_busy_s, memory_mib

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked", re.IGNORECASE)
_STATUS = re.compile(rb"HTTP/1\.[01] 200")
_TOKEN = re.compile(rb"\d{5}")
_STALL_S = 15.0  # no answer at all for so long: the server hangs, the run has failed


class Question:
    """A request's bytes and a check of its answer."""

    def __init__(self, job: Job, number: int) -> None:
        self.kind = job.kind
        self.good: set[bytes] = set()  # answers that were parsed once and found right
        if job.kind == "raw":
            count = job.size_bytes // 4
            ramp = array.array("f", [float(i % 1000 + number) for i in range(1000)])
            body = (ramp * (count // 1000 + 1))[:count].tobytes()
            twice = array.array("f", [2 * x for x in ramp])
            self.expected: Any = bytearray((twice * (count // 1000 + 1))[:count].tobytes())
            mime = "application/octet-stream"
        else:
            value = float(number + 4)
            body = json.dumps({"input": value}).encode()
            mime = "application/json"
            self.expected = (
                {"output": value * value}
                if job.kind == "json"
                else [b"%05d" % (int(value) * CHUNKS + i) for i in range(CHUNKS)]
            )
        head = (
            f"POST {job.path} HTTP/1.1\r\nHost: 127.0.0.1:{job.port}\r\nContent-Type: {mime}\r\n"
            f"Content-Length: {len(body)}\r\nAccept: */*\r\n\r\n"
        )
        self.wire = head.encode() + body

    def right(self, body: bytes | bytearray) -> bool:
        if self.kind == "raw":
            return bool(body == self.expected)
        if body in self.good:
            return True
        if self.kind == "json":
            try:
                right = json.loads(body) == self.expected
            except ValueError:
                return False
        else:
            right = _TOKEN.findall(body) == self.expected
        if right and len(self.good) < 64:
            self.good.add(bytes(body))
        return bool(right)


class Link:
    """One connection. States: sending, waiting for the head, reading the body; then the next question."""

    def __init__(self, job: Job, questions: list[Question], number: int) -> None:
        self.job = job
        self.number = number
        self.questions = questions
        self.turn = 0
        self.sock = socket.create_connection(("127.0.0.1", job.port), timeout=5)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.setblocking(False)
        self.question = questions[0]
        self.left: memoryview | None = None  # of the request, still to send
        self.buffer = b""
        self.body = bytearray(job.size_bytes) if job.kind == "raw" else bytearray()
        self.filled = -1  # bytes of a raw body so far; -1: still in the head
        self.parts: list[bytes] = []
        self.chunked = False
        self.begun_ns = 0
        self.first_ns = 0
        self.busy = False

    def ask(self) -> bool:
        """Send the next question; True if the socket took it whole."""
        self.question = self.questions[self.turn % len(self.questions)]
        self.turn += 1
        self.buffer = b""
        self.filled = -1
        self.parts = []
        self.first_ns = 0
        self.busy = True
        self.begun_ns = time.perf_counter_ns()
        wire = self.question.wire
        try:
            sent = self.sock.send(wire)
        except BlockingIOError:
            sent = 0
        if sent == len(wire):
            return True
        self.left = memoryview(wire)[sent:]
        return False

    def send_more(self) -> bool:
        """Go on sending; True if nothing is left."""
        try:
            while self.left:
                self.left = self.left[self.sock.send(self.left) :]
        except BlockingIOError:
            return False
        self.left = None
        return True

    def receive(self) -> bytes | bytearray | None:  # noqa: PLR0911  (a parser's early ways out)
        """Read what is there; return the body once the answer is complete.

        Raises:
            ValueError: the answer is not a 200 or not HTTP.
            ConnectionError: the server closed.
        """
        if self.filled >= 0:
            return self._receive_raw()
        data = self.sock.recv(262144)
        if not data:
            raise ConnectionError("the server closed the connection before the answer was complete")
        if self.parts:
            return self._receive_chunks(data)
        data = self.buffer + data if self.buffer else data
        end = data.find(b"\r\n\r\n")
        if end < 0:
            self.buffer = data
            return None
        if not _STATUS.match(data):
            raise ValueError(data[:300].decode("latin-1"))
        found = _LENGTH.search(data, 0, end)
        start = end + 4
        if found is None:
            if not _CHUNKED.search(data, 0, end + 2):
                raise ValueError(f"neither length nor chunks: {data[:300]!r}")
            rest = data[start:]
            if not rest:
                self.buffer = data  # the head alone: the first chunk is still to come
                return None
            self.first_ns = time.perf_counter_ns()
            return self._receive_chunks(rest)
        length = int(found[1])
        if self.job.kind == "raw":
            if length != len(self.body):
                raise ValueError(f"answer of {length:,} bytes, expected {len(self.body):,}")
            self.filled = len(data) - start
            self.body[: self.filled] = data[start:]
            return self.body if self.filled == length else None
        if len(data) - start < length:
            self.buffer = data
            return None
        return data[start : start + length]

    def _receive_raw(self) -> bytearray | None:
        try:
            got = self.sock.recv_into(memoryview(self.body)[self.filled :])
        except BlockingIOError:
            return None
        if not got:
            raise ConnectionError("the server closed the connection in the middle of a body")
        self.filled += got
        return self.body if self.filled == len(self.body) else None

    def _receive_chunks(self, data: bytes) -> bytes | None:
        self.parts.append(data)
        tail = data if len(data) >= 5 else b"".join(self.parts[-5:])
        if not tail.endswith(b"0\r\n\r\n"):
            return None
        raw = b"".join(self.parts)
        pieces: list[bytes] = []
        at = 0
        while True:
            end = raw.index(b"\r\n", at)
            size = int(raw[at:end], 16)
            if not size:
                return b"".join(pieces)
            pieces.append(raw[end + 2 : end + 2 + size])
            at = end + 4 + size


class Run:
    """One run: warm up, measure, let what is under way end."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.tally = Tally()
        self.epoll = select.epoll()
        self.links: dict[int, Link] = {}
        self.asking = True
        self.answered = 0
        per_link = 1 if job.kind == "raw" else 4
        self._questions = [
            [Question(job, (n * per_link + i) % 900) for i in range(per_link)]
            for n in range(job.connections)
        ]

    def open(self, number: int) -> None:
        link = Link(self.job, self._questions[number], number)
        self.links[link.sock.fileno()] = link
        self.epoll.register(link.sock.fileno(), select.EPOLLIN)
        self._ask(link)

    def _ask(self, link: Link) -> None:
        if not link.ask():
            self.epoll.modify(link.sock.fileno(), select.EPOLLIN | select.EPOLLOUT)

    def spin(self, until: float) -> None:
        """Serve the sockets until a moment of `time.monotonic`."""
        quiet_since = time.monotonic()
        links = self.links
        limit = self.job.requests_max
        while True:
            now = time.monotonic()
            if now >= until or not links or (limit and self.answered >= limit):
                return
            events = self.epoll.poll(min(until - now, 1.0))
            if events:
                quiet_since = now
            elif now - quiet_since > _STALL_S:
                self.tally.fail(f"no answer at all for {_STALL_S:.0f} s")
                self.asking = False
                return
            for number, event in events:
                link = links[number]
                try:
                    if event & select.EPOLLOUT and link.left is not None and link.send_more():
                        self.epoll.modify(number, select.EPOLLIN)
                    if event & ~select.EPOLLOUT:
                        self._read(link)
                except (OSError, ValueError) as error:
                    self._lose(link, f"{type(error).__name__}: {error}")

    def _read(self, link: Link) -> None:
        self.tally.reads += 1
        body = link.receive()
        if body is None:
            return
        now = time.perf_counter_ns()
        tally = self.tally
        if link.question.right(body):
            tally.latencies_ns.append(now - link.begun_ns)
            if link.first_ns:
                tally.first_ns.append(link.first_ns - link.begun_ns)
            self.answered += 1
        else:
            tally.fail(f"wrong answer: {bytes(body[:200])!r}")
        link.busy = False
        limit = self.job.requests_max
        if self.asking and not (limit and self.answered >= limit):
            self._ask(link)

    def _lose(self, link: Link, why: str) -> None:
        self.tally.fail(why)
        number = link.sock.fileno()
        self.epoll.unregister(number)
        del self.links[number]
        link.sock.close()
        if self.tally.failures > 1000:
            self.asking = False
        if self.asking:
            try:
                self.open(link.number)
            except OSError as error:
                self.tally.fail(f"cannot connect: {error}")
                self.asking = False

    def measure(self) -> dict[str, Any]:
        job = self.job
        for number in range(job.connections):
            self.open(number)
        self.spin(time.monotonic() + job.warmup_s)
        warmed, self.tally = self.tally, Tally()
        self.tally.failures, self.tally.example = warmed.failures, warmed.example
        before = cpu_by_process_s(job.root_pid) if job.root_pid else {}
        own_before, busy_before = time.process_time(), machine_busy_s()
        begun = time.perf_counter()
        self.answered = 0
        self.spin(time.monotonic() + job.seconds)
        took_s = time.perf_counter() - begun
        own_s, busy_s = time.process_time() - own_before, machine_busy_s() - busy_before
        after = cpu_by_process_s(job.root_pid) if job.root_pid else {}
        tally, self.tally = self.tally, Tally()
        pss, rss = memory_mib(job.root_pid) if job.root_pid else (0.0, 0.0)
        self.asking = False
        deadline = time.monotonic() + 10
        while any(link.busy for link in self.links.values()) and time.monotonic() < deadline:
            self.spin(time.monotonic() + 0.05)
        unanswered = sum(link.busy for link in self.links.values())
        if unanswered:
            tally.fail(f"{unanswered} requests were never answered")
        tally.failures += self.tally.failures
        tally.example = tally.example or self.tally.example
        for link in self.links.values():
            link.sock.close()
        figures = summary(job, tally, took_s, own_s, before, after, pss, rss)
        # who else used the machine meanwhile: a run with much of it is no figure
        others_s = busy_s - own_s - figures["server_cores"] * took_s
        return {**figures, "others_cores": max(0.0, others_s / took_s)}


def main() -> None:
    job = Job(**json.loads(sys.stdin.read()))
    json.dump(Run(job).measure(), sys.stdout)


if __name__ == "__main__":
    main()
