# SPDX-License-Identifier: Apache-2.0
"""The load of `bench clients`: blocking connections in threads, large bodies, every answer checked to its last byte.

All answers are checked in the same way: the numbers in them, as float32, must be twice those that were sent. What is checked is not in
the times, but it is between two requests: numbers as JSON are read once, and after that the same text must come again.

Flow:  clients_command.py -> `python -m bench.clients_run` (what to do as JSON on stdin) -> figures as JSON on stdout
"""

from __future__ import annotations

import array
import json
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bench.processes import cpu_by_process_s, describe

if TYPE_CHECKING:
    from collections.abc import Callable

HEAD = "Inference-Header-Content-Length"
LEAD_S = (
    0.3  # from the first upload until somebody else's times are taken, and as long after the last
)


@dataclass
class Ask:
    """What one connection asks again and again: `content` is what must be in its answers, which `read` takes out of one."""

    port: int
    path: str
    body: bytes
    headers: dict[str, str]
    content: bytes
    read: Callable[[memoryview, bytes], bytes]
    times_s: list[float] = field(default_factory=list)
    failures: int = 0
    example: str = ""
    known: bytes = b""  # an answer that was right: its bytes need not be read again


def whole(body: memoryview, _: bytes) -> bytes:
    """The answer is the content."""
    return bytes(body)


def raw_output(body: memoryview, head: bytes) -> bytes:
    """The one output of an answer with binary tensors."""
    json_bytes = int(field_of(head, HEAD.lower().encode()) or -1)
    if json_bytes < 0:
        raise ValueError(f"no raw output: {bytes(body[:300])!r}")
    output = json.loads(bytes(body[:json_bytes]))["outputs"][0]
    if output["parameters"]["binary_data_size"] != len(body) - json_bytes:
        raise ValueError(f"another size than it says: {output}")
    return bytes(body[json_bytes:])


def json_output(body: memoryview, _: bytes) -> bytes:
    """The one output of an answer with numbers as JSON."""
    return array.array("f", json.loads(bytes(body))["outputs"][0]["data"]).tobytes()


def field_of(head: bytes, name: bytes) -> bytes:
    """A header's value, of a head in lower case."""
    return head.partition(b"\r\n" + name + b":")[2].partition(b"\r\n")[0].strip()


def floats(count: int) -> array.array[float]:
    ramp = array.array("f", [float(i % 1000) for i in range(1000)])
    return (ramp * (count // 1000 + 1))[:count]


def oip(port: int, path: str, size_bytes: int, *, binary: bool) -> Ask:
    """x -> 2x by the Open Inference Protocol."""
    values = floats(size_bytes // 4)
    twice = array.array("f", [2 * value for value in values]).tobytes()
    tensor: dict[str, Any] = {"name": "x", "shape": [1, len(values)], "datatype": "FP32"}
    if (
        not binary
    ):  # with an id: without one each answer has another, and would have to be read again
        body = json.dumps({"id": "1", "inputs": [{**tensor, "data": list(values)}]}).encode()
        return Ask(port, path, body, {"Content-Type": "application/json"}, twice, json_output)
    tensor["parameters"] = {"binary_data_size": size_bytes}
    asked = {"inputs": [tensor], "outputs": [{"name": "y", "parameters": {"binary_data": True}}]}
    head = json.dumps(asked).encode()
    headers = {"Content-Type": "application/octet-stream", HEAD: str(len(head))}
    return Ask(port, path, head + values.tobytes(), headers, twice, raw_output)


def raw(port: int, path: str, size_bytes: int) -> Ask:
    """x -> 2x as bytes."""
    values = floats(size_bytes // 4)
    twice = array.array("f", [2 * value for value in values]).tobytes()
    headers = {"Content-Type": "application/octet-stream"}
    return Ask(port, path, values.tobytes(), headers, twice, whole)


def small(port: int, path: str) -> Ask:
    """A no-op."""
    headers = {"Content-Type": "application/json"}
    return Ask(port, path, b'{"input": 3.0}', headers, b'{"output":9.0}', whole)


class Line:
    """One keep-alive connection."""

    def __init__(self, ask: Ask) -> None:
        self.ask = ask
        self.sock = socket.create_connection(("127.0.0.1", ask.port), timeout=60)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        head = "".join(f"{name}: {value}\r\n" for name, value in ask.headers.items())
        first = f"POST {ask.path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(ask.body)}\r\n{head}\r\n"
        self.wire = first.encode() + ask.body
        self.room = bytearray(2 * len(ask.body) + (1 << 16))
        self.got = 0

    def once(self) -> float:
        begun = time.perf_counter()
        self.sock.sendall(self.wire)
        head, body = self._receive()
        took_s = time.perf_counter() - begun
        # As bytes: a memoryview is compared element by element, which would make the client the slowest of all.
        if not self.ask.known or bytes(body) != self.ask.known:
            if self.ask.read(body, head) != self.ask.content:
                raise ValueError(f"wrong answer: {bytes(body[:200])!r}")
            self.ask.known = bytes(body)
        return took_s

    def _receive(self) -> tuple[bytes, memoryview]:
        self.got = 0
        end = self._find(b"\r\n\r\n", 0) + 4
        head = bytes(self.room[:end]).lower()
        if not head.startswith(b"http/1.1 200"):
            raise ValueError(bytes(self.room[: self.got])[:300].decode("latin-1"))
        if field_of(head, b"transfer-encoding") == b"chunked":
            return head, self._chunks(end)
        stop = end + int(field_of(head, b"content-length"))
        self._fill(stop)
        return head, memoryview(self.room)[end:stop]

    def _chunks(self, at: int) -> memoryview:
        """Join the chunks of a body; one alone, as most are, is not copied."""
        parts: list[memoryview] = []
        while True:
            line = self._find(b"\r\n", at)
            size = int(self.room[at:line].partition(b";")[0], 16)
            start, at = line + 2, line + 4 + size
            self._fill(at)
            if not size:
                return parts[0] if len(parts) == 1 else memoryview(b"".join(parts))
            parts.append(memoryview(self.room)[start : start + size])

    def _find(self, what: bytes, start: int) -> int:
        while (at := self.room.find(what, start, self.got)) < 0:
            self._more(len(self.room))
        return at

    def _fill(self, stop: int) -> None:
        if stop > len(self.room):
            self.room = self.room + bytes(
                stop - len(self.room)
            )  # not in place: parts point into it
        while self.got < stop:
            self._more(stop)

    def _more(self, stop: int) -> None:
        with memoryview(self.room) as view:
            got = self.sock.recv_into(view[self.got : stop])
        if not got:
            raise ConnectionError("the server closed the connection")
        self.got += got


def keep_asking(ask: Ask, until_s: float) -> None:
    try:
        line = Line(ask)
        while time.monotonic() < until_s:
            ask.times_s.append(line.once())
        line.sock.close()
    except (OSError, ValueError, KeyError, struct.error) as error:
        ask.failures += 1
        ask.example = f"{type(error).__name__}: {error}"


def together(asks: list[Ask], seconds: float) -> float:
    """Have all of them ask at the same time, each on its connection; returns the seconds until the last answer."""
    begun = time.monotonic()
    until_s = begun + seconds
    threads = [threading.Thread(target=keep_asking, args=(ask, until_s)) for ask in asks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.monotonic() - begun


def figures(asks: list[Ask], seconds: float) -> dict[str, Any]:
    times = sorted(one for ask in asks for one in ask.times_s)
    failures = sum(ask.failures for ask in asks)
    example = next((ask.example for ask in asks if ask.example), "")
    if not times:
        return {"failures": failures or 1, "example": example or "no answer"}
    return {
        "failures": failures,
        "example": example,
        "requests_per_s": len(times) / seconds,
        "p50_ms": 1e3 * times[len(times) // 2],
        "p99_ms": 1e3 * times[min(len(times) - 1, int(len(times) * 0.99))],
    }


def by_handover(port: int, path: str, size_bytes: int, seconds: float) -> dict[str, Any]:
    """64 MiB in and out by descriptor: `predict` touches one number only, so what is measured is the way."""
    import cubbyhole

    times: list[float] = []
    with cubbyhole.LocalClient(port) as client:
        x = client.empty(size_bytes // 4, "float32")
        x[:] = 1.5
        until_s = time.monotonic() + seconds
        while time.monotonic() < until_s:
            begun = time.perf_counter()
            y = client.predict(x, path)
            times.append(time.perf_counter() - begun)
            assert y.shape == x.shape
            assert y[0] == 3.0
            del y
    times.sort()
    return {
        "failures": 0,
        "p50_ms": 1e3 * times[len(times) // 2],
        "p99_ms": 1e3 * times[int(len(times) * 0.99)],
        "requests_per_s": len(times) / seconds,
    }


def beside_uploads(port: int, seconds: float, size_bytes: int) -> dict[str, Any]:
    """Small requests alone, and while two clients upload without a pause: a second of each in turn, as a machine's speed drifts."""
    alone, beside = ([small(port, "/predict") for _ in range(4)] for _ in range(2))
    alone_s = beside_s = 0.0
    uploads: dict[str, Any] = {"failures": 0, "requests_per_s": 0.0}
    turns = max(2, round(seconds))
    with Uploading(port, size_bytes) as uploading:
        for _ in range(turns):
            alone_s += together(alone, 1.0)
            uploading.begin(1.0 + 2 * LEAD_S)
            time.sleep(LEAD_S)
            beside_s += together(beside, 1.0)
            sent = uploading.end()
            uploads["requests_per_s"] += sent.get("requests_per_s", 0.0) / turns
            uploads["failures"] += sent["failures"]
            uploads.setdefault("example", sent.get("example", ""))
    parts = (figures(alone, alone_s), figures(beside, beside_s), uploads)
    found = {f"quiet_{name}": parts[0].get(name, 0.0) for name in ("p50_ms", "p99_ms")}
    found |= {f"beside_{name}": parts[1].get(name, 0.0) for name in ("p50_ms", "p99_ms")}
    found["uploads_per_s"] = uploads["requests_per_s"]
    found["failures"] = sum(part["failures"] for part in parts)
    found["example"] = next((part["example"] for part in parts if part.get("example")), "")
    return found


class Uploading:
    """Two clients that upload when they are told to. A process of its own: its threads must not hold up those whose times are taken."""

    def __init__(self, port: int, size_bytes: int) -> None:
        self._job = {"kind": "uploading", "port": port, "path": "/upload", "size_bytes": size_bytes}

    def __enter__(self) -> Uploading:  # noqa: PYI034  (Self came with 3.11)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.clients_run", json.dumps({**self._job, "seconds": 0})],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def begin(self, seconds: float) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{seconds}\n")
        self._process.stdin.flush()

    def end(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        found: dict[str, Any] = json.loads(self._process.stdout.readline())
        return found

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=60)


def upload(port: int, path: str, size_bytes: int) -> None:
    """What `Uploading` starts."""
    headers = {"Content-Type": "application/octet-stream"}
    length = str(size_bytes).encode()
    asks = [Ask(port, path, bytes(size_bytes), headers, length, whole) for _ in range(2)]
    for line in sys.stdin:
        for ask in asks:
            ask.times_s.clear()
        print(json.dumps(figures(asks, together(asks, float(line)))), flush=True)


class Spent:
    """CPU time of the server's processes and of the client, from `__enter__` to `__exit__`."""

    def __init__(self, root_pid: int) -> None:
        self._root_pid = root_pid
        self.server_s: dict[int, float] = {}
        self.client_s = 0.0

    def __enter__(self) -> Spent:  # noqa: PYI034  (Self came with 3.11)
        self.server_s, self.client_s = cpu_by_process_s(self._root_pid), _own_cpu_s()
        return self

    def __exit__(self, *_: object) -> None:
        now = cpu_by_process_s(self._root_pid)
        self.server_s = {pid: spent - self.server_s.get(pid, 0.0) for pid, spent in now.items()}
        self.client_s = _own_cpu_s() - self.client_s

    def per_request(self, requests: int) -> dict[str, Any]:
        if not requests:
            return {}
        ms = 1e3 / requests
        return {
            "server_cpu_ms": sum(self.server_s.values()) * ms,
            "client_cpu_ms": self.client_s * ms,
            "cpu_by_process_ms": {
                f"{pid} {describe(pid)}": spent * ms for pid, spent in self.server_s.items()
            },
        }


def _own_cpu_s() -> float:
    times = os.times()
    return times.user + times.system


def main() -> None:
    wanted = json.loads(sys.argv[1] if sys.argv[1:] else sys.stdin.read())
    kind, port, path = wanted["kind"], wanted["port"], wanted["path"]
    size_bytes, seconds = wanted["size_bytes"], wanted["seconds"]
    if kind == "uploading":
        upload(port, path, size_bytes)
        return
    if kind == "handover":
        found = by_handover(port, path, size_bytes, seconds)
    elif kind == "uploads":
        found = beside_uploads(port, seconds, size_bytes)
    else:
        make = raw if kind == "raw" else lambda *args: oip(*args, binary=kind == "oip")
        asks = [make(port, path, size_bytes) for _ in range(wanted["connections"])]
        together(asks, min(seconds, 1.0))  # warm
        for ask in asks:
            ask.times_s.clear()
        with Spent(wanted["root_pid"]) as spent:
            took_s = together(asks, seconds)
        found = figures(asks, took_s)
        found |= spent.per_request(sum(len(ask.times_s) for ask in asks))
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
