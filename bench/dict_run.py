# SPDX-License-Identifier: Apache-2.0
"""One shared dictionary under measurement: set and get by size, contention, death of a writer.

Flow:  dict_command.py -> `python -m bench.dict_run` (job as JSON on stdin) -> records as JSON on stdout
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import random
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

from bench.dict_stores import STORES

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

SPAWN = multiprocessing.get_context("spawn")
_STUCK_S = 5.0


def _value(shape: str, size: int, fill: int) -> Any:
    if shape == "bytes":
        return bytes([fill]) * size
    import numpy as np

    return np.full(size // 4, float(fill), np.float32)


def _right(shape: str, value: Any, size: int, fills: range) -> bool:
    """Whether a value is whole: its length, and first, middle and last from one write."""
    if shape == "bytes" or type(value) is bytes:
        view = memoryview(value).cast("B")
        same = view[0] == view[len(view) // 2] == view[-1 if shape == "bytes" else -4]
        return len(view) == size and same and (shape != "bytes" or view[0] in fills)
    return bool(value.size * 4 == size and value[0] == value[value.size // 2] == value[-1])


def reader(name: str, handle: Any, pipe: Connection) -> None:
    """Time gets of what the other process wrote."""
    mapping = STORES[name]().open(handle)
    pipe.send("ready")
    while job := pipe.recv():
        shape, size, rounds = job
        times, right = [], True
        for _ in range(rounds):
            at = time.perf_counter_ns()
            value = mapping["k"]
            times.append(time.perf_counter_ns() - at)
            right = right and _right(shape, value, size, range(256))
            del value
        times.sort()
        pipe.send((times[len(times) // 2] / 1e3, right))


def writer(name: str, handle: Any, key: str, size: int, seconds: float, pipe: Connection) -> None:
    """Set and get one key as often as it goes; say how often."""
    mapping = STORES[name]().open(handle)
    body = [bytes([n]) * size for n in range(1, 5)]
    mapping[key] = body[0]
    pipe.send("ready")
    pipe.recv()
    count, until = 0, time.perf_counter() + seconds
    while time.perf_counter() < until:
        mapping[key] = body[count & 3]
        mapping[key]
        count += 1
    pipe.send(count)


def prober(name: str, handle: Any, size: int, pipe: Connection) -> None:
    """Read a key that a killed process was writing, then write it and another."""
    mapping = STORES[name]().open(handle)
    try:
        value = mapping["k"]
        whole = _right("bytes", value, size, range(1, 5))
        del value
    except Exception:  # a broken pickle, a missing key: whatever a torn value looks like here
        whole = False
    pipe.send(("read", whole))
    try:
        mapping["k"] = bytes([1]) * size
        mapping["other"] = b"x"
        pipe.send(("written", bytes(mapping["k"])[:1] == bytes([1])))
    except Exception:
        pipe.send(("written", False))


def _child(target: Any, *arguments: Any) -> tuple[Any, Any]:
    ours, theirs = SPAWN.Pipe()
    process = SPAWN.Process(target=target, args=(*arguments, theirs), daemon=True)
    process.start()
    return process, ours


def _answer(pipe: Any, limit_s: float) -> Any:
    try:
        return pipe.recv() if pipe.poll(limit_s) else None
    except EOFError:  # the process ended instead
        return None


def sizes(name: str, handle: Any, mapping: Any, job: dict[str, Any]) -> list[dict[str, Any]]:
    process, pipe = _child(reader, name, handle)
    _answer(pipe, 30)
    records = []
    for shape in ("bytes", "array"):
        for size in job["sizes"]:
            values = [_value(shape, size, fill) for fill in (1, 2)]
            times: list[int] = []
            begun = time.perf_counter()
            rounds = 0
            try:
                while rounds < 5 or (
                    time.perf_counter() - begun < job["seconds"] and rounds < 5000
                ):
                    at = time.perf_counter_ns()
                    mapping["k"] = values[rounds & 1]
                    times.append(time.perf_counter_ns() - at)
                    rounds += 1
                pipe.send((shape, size, min(rounds, 300)))
                got = _answer(pipe, 60)
                if got is None or not got[1]:
                    why = "no answer" if got is None else "a wrong value was read"
                    raise ValueError(why)  # noqa: TRY301  (refused and wrong are told in one place)
            except Exception as error:
                why = f"{type(error).__name__}: {error}"[:200]
                records.append({"case": f"{shape}-{size}", "refused": why})
                continue
            times.sort()
            figures = {"set_us": times[len(times) // 2] / 1e3, "get_us": got[0]}
            records.append({"case": f"{shape}-{size}", **figures})
    pipe.send(None)
    process.join(3)
    return records


def contention(name: str, handle: Any, _mapping: Any, job: dict[str, Any]) -> list[dict[str, Any]]:
    records = []
    for case, keys in (("own-keys", ["a", "b", "c", "d"]), ("one-key", ["k"] * 4)):
        children = [_child(writer, name, handle, key, 1024, job["seconds"]) for key in keys]
        for _, pipe in children:
            _answer(pipe, 30)
        for _, pipe in children:
            with contextlib.suppress(OSError):  # it ended already
                pipe.send("go")
        counts = [_answer(pipe, job["seconds"] + 20) for _, pipe in children]
        for process, _ in children:
            process.kill()
        stuck = sum(c is None for c in counts)
        done = [c for c in counts if c is not None]
        rate = sum(done) / job["seconds"]
        records.append(
            {
                "case": case,
                "pairs_per_s": rate,
                "least_per_s": min(done, default=0) / job["seconds"],
                "lost_writers": stuck,
            }
        )
    return records


def death(name: str, _handle: Any, _mapping: Any, job: dict[str, Any]) -> list[dict[str, Any]]:
    """Kill a writer of 1 MiB values at a random moment, a fresh dictionary each time."""
    seeded = random.Random(job["seed"])
    torn = stuck = 0
    for _ in range(job["rounds"]):
        store = STORES[name]()
        handle = store.make(1 << 20)
        mapping = store.open(handle)
        process, pipe = _child(writer, name, handle, "k", 1 << 20, 30.0)
        _answer(pipe, 30)
        pipe.send("go")
        time.sleep(0.02 + seeded.random() * 0.05)
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        other, says = _child(prober, name, handle, 1 << 20)
        read = _answer(says, _STUCK_S + 5)  # includes the start of a process
        written = _answer(says, _STUCK_S) if read else None
        stuck += read is None or written is None
        torn += bool((read and not read[1]) or (written and not written[1]))
        other.kill()
        other.join()
        del mapping
        store.end()
    return [
        {"case": "writer-killed", "rounds": job["rounds"], "stuck": stuck, "torn_or_lost": torn}
    ]


def main() -> None:
    job = json.loads(sys.stdin.read())
    store = STORES[job["store"]]()
    handle = store.make(max(job["sizes"]))
    mapping = store.open(handle)
    measure = {"sizes": sizes, "contention": contention, "death": death}[job["what"]]
    try:
        records = measure(job["store"], handle, mapping, job)
    finally:
        for child in multiprocessing.active_children():
            if "Manager" not in child.name:
                child.kill()
        store.end()
    json.dump(records, sys.stdout)


if __name__ == "__main__":
    main()
