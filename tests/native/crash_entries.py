# SPDX-License-Identifier: Apache-2.0
"""Run by test_crash_points.py against a build with crash points: dies at each of them, and looks at what is left.

Prints one JSON object: crash point -> what was wrong (empty: nothing).
"""

from __future__ import annotations

import multiprocessing
import select
import sys
import time
from typing import TYPE_CHECKING, Any

from tests.native.crash_scene import (
    ARENA,
    LIFTS,
    SITTING_DOWN,
    answer_the_rest,
    armed_worker,
    ask,
    collect_for,
    died,
    end_of,
    failed_otherwise,
    fill_arena,
    left_over,
    report_all,
    steady_worker,
)

from cubbyhole._native import _entries, _segment
from cubbyhole.channels.base import ChannelSettings
from cubbyhole.channels.shm import SharedMemoryChannel
from cubbyhole.core.entries import RequestEntry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.native.crash_scene import Scene

INLINE, BLOCK, RUN = 10, 5_000, 400_000
ALL = (INLINE, BLOCK, RUN)
ARENA_POINTS: dict[int, tuple[int, ...]] = {  # in the heap -> the sizes that lead there
    **{point: (size,) for point, size in LIFTS.items()},
    **dict.fromkeys((64, 65, 66), (BLOCK,)),
    **dict.fromkeys((67, 68, 69), (RUN,)),
}
SUBMIT_POINTS: dict[int, tuple[int, ...]] = {
    **dict.fromkeys((1, 2, 3, 73), ALL),
    **ARENA_POINTS,
    SITTING_DOWN: (INLINE,),
}
# With a worker at the other end. 19: it sleeps; 70-72: collect; 74: cancel; 83-85: the chunks of a stream.
SERVED_POINTS: dict[int, tuple[int, ...]] = {
    **dict.fromkeys((70, 71, 72, 74, 83, 84, 85), ALL),
    19: (INLINE,),
}
WORKER_POINTS: dict[int, tuple[int, ...]] = {
    **dict.fromkeys((4, 5, 6, 7, 8, 9, 10, 11, 12, 17, 18, 77, 78, 79, 80, 81, 82), ALL),
    **ARENA_POINTS,
    75: ALL,
    SITTING_DOWN: (INLINE,),
}
EXPIRING = 75  # in the answer to an entry whose time is over
LENDING = 79
SUPERVISOR_POINTS = {  # in reclaim -> where the worker died before; 15 only where an entry is offered again
    **dict.fromkeys((13, 14, 15, 16, 91), 5),
    92: LENDING,
}
ARMED = {*SUBMIT_POINTS, *SERVED_POINTS, *WORKER_POINTS, *SUPERVISOR_POINTS}


def dying_front(channel: SharedMemoryChannel, point: int, size: int) -> None:
    _segment.arm_crash_point(point if point == SITTING_DOWN else 0)
    port = channel.front(1)
    if point in LIFTS:
        fill_arena(port, 4000 if size == RUN else RUN)
    _entries.arm_crash_point(point)
    for number in range(3):
        port.submit(RequestEntry(1000 + number, 0, bytes(size), meta=b"m" * (size % 900)))
        port.cancel(1000 + number)


def dying_reader(channel: SharedMemoryChannel, point: int, size: int) -> None:
    port = channel.front(1)
    _entries.arm_crash_point(point)
    until = time.monotonic() + 15
    for number in range(1000, 9000, 2):
        # The second one is a stream; in its middle it may be cancelled.
        ask(port, {number, number + 1}, size)
        wanted = {number, number + 1}
        while wanted and time.monotonic() < until:
            select.select([port.fileno()], [], [], 0.02)
            for news in port.collect():
                if news.outcome is None and point == 74:
                    port.cancel(news.id)
                if news.outcome is not None or port.take_chunks(news.id).end is not None:
                    wanted.discard(news.id)
        if point == 19:
            time.sleep(0.01)  # its worker is to fall asleep before the next one
        if time.monotonic() >= until:
            break


def dying_supervisor(channel: SharedMemoryChannel, point: int) -> None:
    _entries.arm_crash_point(point)
    channel.reclaim("worker", 0)


def new_channel() -> SharedMemoryChannel:
    return SharedMemoryChannel.create(ChannelSettings(fronts=2, workers=1, arena_bytes=ARENA))


def worker_dies(
    context: Any, point: int, size: int, *, retry: bool, supervisor_point: int = 0
) -> list[str]:
    channel = new_channel()
    front = channel.front(0)
    wanted = set(range(1, 7))
    deadline = {"deadline_ns": 1} if point == EXPIRING else {}
    ask(front, wanted, size, retry_on_death=retry, **deadline)
    child = context.Process(target=armed_worker, args=(channel, 0, point, size), daemon=True)
    child.start()
    until = time.monotonic() + 15
    answered: dict[int, Any] = {}
    while child.is_alive() and time.monotonic() < until:  # streams need a reader to go on
        answered |= collect_for(front, wanted - set(answered), time.monotonic() + 0.02)
    if wrong := died(child, "the crash point"):
        return wrong
    if supervisor_point:
        child = context.Process(target=dying_supervisor, args=(channel, supervisor_point))
        child.start()
        if wrong := died(child, "the supervisor's point"):
            return wrong
    channel.reclaim("worker", 0)
    answered |= answer_the_rest(context, channel, front, wanted - set(answered))
    missing = wanted - set(answered)
    wrong = [f"never answered: {sorted(missing)}"] if missing else []
    wrong += failed_otherwise(answered, {"expired"} if point == EXPIRING else {"worker_died"})
    del answered
    return wrong + end_of(channel, front)


def front_dies(context: Any, point: int, size: int) -> list[str]:
    channel = new_channel()
    child = context.Process(target=dying_front, args=(channel, point, size))
    child.start()
    if wrong := died(child, "the crash point"):
        return wrong
    return settle_front(channel)


def reader_dies(context: Any, point: int, size: int) -> list[str]:
    channel = new_channel()
    over = context.Event()
    worker = context.Process(target=steady_worker, args=(channel, size, over), daemon=True)
    worker.start()
    child = context.Process(target=dying_reader, args=(channel, point, size), daemon=True)
    child.start()
    wrong = died(child, "the crash point")
    channel.reclaim("front", 1)
    front = channel.front(0)  # the worker goes on, for whoever else there is
    ask(front, {1}, size)
    if not collect_for(front, {1}, time.monotonic() + 15):
        wrong.append("its worker answers nobody any more")
    over.set()
    worker.join(15)
    if worker.exitcode != 0:
        wrong.append(f"its worker ended as {worker.exitcode}")
    front.close()
    return wrong + settle_front(channel)


def settle_front(channel: SharedMemoryChannel) -> list[str]:
    channel.reclaim("front", 1)
    wrong = left_over(channel)
    again = channel.front(1)
    for number in range(1, 1025):  # no slot may be lost
        again.submit(RequestEntry(number, 0, b""))
    for number in range(1, 1025):
        again.cancel(number)
    return wrong + end_of(channel, again)


def scenes(context: Any) -> Iterator[Scene]:
    for points, play, who in (
        (SUBMIT_POINTS, front_dies, "front"),
        (SERVED_POINTS, reader_dies, "front that reads"),
    ):
        for point, sizes in points.items():
            for size in sizes:
                yield f"{who} at {point}, {size} bytes", (play, (context, point, size), {})
    for point, sizes in WORKER_POINTS.items():
        for size in sizes:
            for retry in (False, True):
                name = f"worker at {point}, {size} bytes, retry={retry}"
                yield name, (worker_dies, (context, point, size), {"retry": retry})
    for point, died_at in SUPERVISOR_POINTS.items():
        for size in ALL:
            for retry in (False, True) if point != 15 else (True,):
                name = f"supervisor at {point}, {size} bytes, retry={retry}"
                how = {"retry": retry, "supervisor_point": point}
                yield name, (worker_dies, (context, died_at, size), how)


def main() -> None:
    if not _entries.CRASH_POINTS:
        raise SystemExit("this build has no crash points")
    report_all(scenes(multiprocessing.get_context("fork")), sys.argv[1:])


if __name__ == "__main__":
    main()
