# SPDX-License-Identifier: Apache-2.0
"""Run by test_crash_points.py against a build with crash points: dies at each of them, and looks at what is left.

Prints one JSON object: crash point -> what was wrong (empty: nothing).
"""

from __future__ import annotations

import json
import multiprocessing
import select
import sys
import time
from typing import Any

from cubbyhole._native import _entries
from cubbyhole.channels.base import ChannelSettings, FrontPort
from cubbyhole.channels.shm import SharedMemoryChannel
from cubbyhole.core.entries import Chunk, Failure, RequestEntry, Result

FRONT_POINTS = (1, 2, 3)
WORKER_POINTS = (4, 5, 6, 7, 8, 9, 10, 11, 12)
SUPERVISOR_POINTS = (13, 14, 15, 16)  # in reclaim; 15 only where an entry is offered again
CLAIMED = 5  # where the worker died before
SIZES = (10, 5_000, 400_000)  # inline, a block, a run
BIG = b"B" * 60_000  # a chunk that does not fit the ring of a stream
ARENA = 32 << 20


def dying_front(channel: SharedMemoryChannel, point: int, size: int) -> None:
    port = channel.front(1)
    _entries.arm_crash_point(point)
    for number in range(3):
        port.submit(RequestEntry(1000 + number, 0, bytes(size), meta=b"m" * (size % 900)))


def dying_worker(channel: SharedMemoryChannel, point: int, size: int) -> None:
    port = channel.worker(0, 0)
    _entries.arm_crash_point(point)
    while True:
        for entry in port.claim(2, 5.0):
            if entry.id % 2:
                port.publish(entry, Result(bytes(size), meta=b"m" * 30))
                continue
            for chunk in (b"one", BIG, b"three"):
                while not port.publish(entry, Chunk(chunk, meta=b"head"), 5.0):
                    pass
            port.publish(entry, Result(b""))


def dying_supervisor(channel: SharedMemoryChannel, point: int) -> None:
    _entries.arm_crash_point(point)
    channel.reclaim("worker", 0)


def good_worker(channel: SharedMemoryChannel, answers: int) -> None:
    port = channel.worker(0, 0)
    for _ in range(answers):
        for entry in port.claim(1, 0.05):
            port.publish(entry, Result(bytes(entry.body)))
    port.close()


def collect_for(port: FrontPort, wanted: set[int], until: float) -> dict[int, Any]:
    answered: dict[int, Any] = {}
    while wanted - set(answered) and time.monotonic() < until:
        select.select([port.fileno()], [], [], 0.1)
        for news in port.collect():
            outcome = news.outcome if news.outcome is not None else port.take_chunks(news.id).end
            if outcome is not None:
                answered[news.id] = outcome
    return answered


def left_over(channel: SharedMemoryChannel) -> list[str]:
    statistics = channel.statistics()
    wrong = []
    if statistics.slots_used:
        wrong.append(f"{statistics.slots_used} slots lost: {channel.snapshot()}")
    if statistics.blocks_used:
        wrong.append(f"{statistics.blocks_used} blocks lost")
    return wrong


def worker_dies(
    context: Any, point: int, size: int, *, retry: bool, supervisor_point: int = 0
) -> list[str]:
    channel = SharedMemoryChannel.create(ChannelSettings(fronts=2, workers=1, arena_bytes=ARENA))
    front = channel.front(0)
    wanted = set(range(1, 7))
    for number in wanted:
        front.submit(RequestEntry(number, 0, bytes(size), retry_on_death=retry))
    child = context.Process(target=dying_worker, args=(channel, point, size))
    child.start()
    until = time.monotonic() + 15
    answered: dict[int, Any] = {}
    while child.is_alive() and time.monotonic() < until:  # streams need a reader to go on
        answered |= collect_for(front, wanted - set(answered), time.monotonic() + 0.02)
    child.join(5)
    if child.exitcode != -9:
        child.kill()
        child.join()
        return [f"the crash point was not reached: exit code {child.exitcode}"]
    if supervisor_point:
        child = context.Process(target=dying_supervisor, args=(channel, supervisor_point))
        child.start()
        child.join(5)
        if child.exitcode != -9:
            return [f"the supervisor's point was not reached: exit code {child.exitcode}"]
    channel.reclaim("worker", 0)
    answered |= collect_for(front, wanted - set(answered), time.monotonic() + 0.1)
    if wanted - set(answered):
        second = context.Process(target=good_worker, args=(channel, 8))
        second.start()
        answered |= collect_for(front, wanted - set(answered), time.monotonic() + 3)
        second.join(10)
    missing = wanted - set(answered)
    wrong = [f"never answered: {sorted(missing)}"] if missing else []
    failed = {k: v.code for k, v in answered.items() if isinstance(v, Failure)}
    if set(failed.values()) - {"worker_died"}:
        wrong.append(f"failed otherwise: {failed}")
    del answered
    wrong += left_over(channel)
    front.close()
    channel.close()
    return wrong


def front_dies(context: Any, point: int, size: int) -> list[str]:
    channel = SharedMemoryChannel.create(ChannelSettings(fronts=2, workers=1, arena_bytes=ARENA))
    child = context.Process(target=dying_front, args=(channel, point, size))
    child.start()
    child.join(15)
    if child.exitcode != -9:
        return [f"the crash point was not reached: exit code {child.exitcode}"]
    channel.reclaim("front", 1)
    wrong = left_over(channel)
    again = channel.front(1)
    for number in range(1, 1025):  # no slot may be lost
        again.submit(RequestEntry(number, 0, b""))
    for number in range(1, 1025):
        again.cancel(number)
    again.close()
    wrong += left_over(channel)
    channel.close()
    return wrong


def main() -> None:
    if not _entries.CRASH_POINTS:
        raise SystemExit("this build has no crash points")
    context = multiprocessing.get_context("fork")  # the children need nothing of their own
    found: dict[str, list[str]] = {}
    for size in SIZES:
        for point in FRONT_POINTS:
            found[f"front at {point}, {size} bytes"] = front_dies(context, point, size)
        for point in WORKER_POINTS:
            for retry in (False, True):
                name = f"worker at {point}, {size} bytes, retry={retry}"
                found[name] = worker_dies(context, point, size, retry=retry)
        for point in SUPERVISOR_POINTS:
            for retry in (False, True) if point != 15 else (True,):
                name = f"supervisor at {point}, {size} bytes, retry={retry}"
                found[name] = worker_dies(
                    context, CLAIMED, size, retry=retry, supervisor_point=point
                )
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
