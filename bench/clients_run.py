# SPDX-License-Identifier: Apache-2.0
"""The load of `bench clients`: blocking connections in threads, large bodies, every answer checked to its last byte.

Flow:  clients_command.py -> `python -m bench.clients_run` (what to do as JSON on stdin) -> figures as JSON on stdout
"""

from __future__ import annotations

import array
import json
import socket
import struct
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import Any

HEAD = "Inference-Header-Content-Length"


@dataclass
class Ask:
    """What one connection asks again and again: `tail` is how its answers must end."""

    port: int
    path: str
    body: bytes
    headers: dict[str, str]
    tail: bytes
    is_json: bool = False
    times_s: list[float] = field(default_factory=list)
    failures: int = 0
    example: str = ""


def floats(count: int) -> array.array[float]:
    ramp = array.array("f", [float(i % 1000) for i in range(1000)])
    return (ramp * (count // 1000 + 1))[:count]


def oip(port: int, path: str, size_bytes: int, *, binary: bool) -> Ask:
    """x -> 2x by the Open Inference Protocol."""
    values = floats(size_bytes // 4)
    twice = array.array("f", [2 * value for value in values])
    tensor: dict[str, Any] = {"name": "x", "shape": [1, len(values)], "datatype": "FP32"}
    if not binary:
        body = json.dumps({"inputs": [{**tensor, "data": list(values)}]}).encode()
        return Ask(port, path, body, {"Content-Type": "application/json"}, twice.tobytes(), True)
    tensor["parameters"] = {"binary_data_size": size_bytes}
    asked = {"inputs": [tensor], "outputs": [{"name": "y", "parameters": {"binary_data": True}}]}
    head = json.dumps(asked).encode()
    headers = {"Content-Type": "application/octet-stream", HEAD: str(len(head))}
    return Ask(port, path, head + values.tobytes(), headers, twice.tobytes())


def raw(port: int, path: str, size_bytes: int) -> Ask:
    """x -> 2x as bytes."""
    values = floats(size_bytes // 4)
    twice = array.array("f", [2 * value for value in values])
    headers = {"Content-Type": "application/octet-stream"}
    return Ask(port, path, values.tobytes(), headers, twice.tobytes())


def small(port: int, path: str) -> Ask:
    """A no-op."""
    headers = {"Content-Type": "application/json"}
    return Ask(port, path, b'{"input": 3.0}', headers, b'{"output":9.0}')


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

    def once(self) -> float:
        begun = time.perf_counter()
        self.sock.sendall(self.wire)
        body = self._receive()
        took_s = time.perf_counter() - begun
        if self.ask.is_json:
            found = array.array("f", json.loads(bytes(body))["outputs"][0]["data"])
            right = found.tobytes() == self.ask.tail
        else:
            # As bytes: a memoryview is compared element by element, which would make the client the slowest of all.
            right = bytes(body[-len(self.ask.tail) :]) == self.ask.tail
        if not right:
            raise ValueError(f"wrong answer: {bytes(body[:200])!r}")
        return took_s

    def _receive(self) -> memoryview:
        view, got = memoryview(self.room), 0
        while (end := self.room.find(b"\r\n\r\n", 0, got)) < 0:
            got += self._more(view[got:])
        head = bytes(view[:end]).lower()
        if not head.startswith(b"http/1.1 200"):
            raise ValueError(bytes(view[:got])[:300].decode("latin-1"))
        length = int(head.partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0])
        whole = end + 4 + length
        if whole > len(self.room):
            del view
            self.room += bytes(whole - len(self.room))
            view = memoryview(self.room)
        while got < whole:
            got += self._more(view[got:whole])
        return view[end + 4 : whole]

    def _more(self, into: memoryview) -> int:
        got = self.sock.recv_into(into)
        if not got:
            raise ConnectionError("the server closed the connection")
        return got


def keep_asking(ask: Ask, until_s: float) -> None:
    try:
        line = Line(ask)
        while time.monotonic() < until_s:
            ask.times_s.append(line.once())
        line.sock.close()
    except (OSError, ValueError, KeyError, struct.error) as error:
        ask.failures += 1
        ask.example = f"{type(error).__name__}: {error}"


def together(asks: list[Ask], seconds: float) -> None:
    """Have all of them ask at the same time, each on its connection."""
    until_s = time.monotonic() + seconds
    threads = [threading.Thread(target=keep_asking, args=(ask, until_s)) for ask in asks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


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
    """Small requests alone, and while two clients upload without a pause."""
    quiet = [small(port, "/predict") for _ in range(4)]
    together(quiet, seconds)
    busy = [small(port, "/predict") for _ in range(4)]
    headers = {"Content-Type": "application/octet-stream"}
    uploads = [Ask(port, "/upload", bytes(size_bytes), headers, b"") for _ in range(2)]
    for one in uploads:
        one.tail = str(size_bytes).encode()
    together([*busy, *uploads], seconds)
    alone, beside, sent = (figures(asks, seconds) for asks in (quiet, busy, uploads))
    found = {f"quiet_{name}": alone.get(name, 0.0) for name in ("p50_ms", "p99_ms")}
    found |= {f"beside_{name}": beside.get(name, 0.0) for name in ("p50_ms", "p99_ms")}
    found["uploads_per_s"] = sent.get("requests_per_s", 0.0)
    parts = (alone, beside, sent)
    found["failures"] = sum(part["failures"] for part in parts)
    found["example"] = next((part["example"] for part in parts if part.get("example")), "")
    return found


def main() -> None:
    wanted = json.loads(sys.stdin.read())
    kind, port, path = wanted["kind"], wanted["port"], wanted["path"]
    size_bytes, seconds = wanted["size_bytes"], wanted["seconds"]
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
        together(asks, seconds)
        found = figures(asks, seconds)
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
