# SPDX-License-Identifier: Apache-2.0
"""Run by test_crash_points.py against a build with crash points: one process stops between two instructions, others go on.

Prints one JSON object: what happened -> what was wrong (empty: nothing). crash_entries.py has the deaths of one at a time.
"""

from __future__ import annotations

import multiprocessing
import sys
import time
from typing import TYPE_CHECKING, Any

from tests.native.crash_entries import BLOCK, INLINE, RUN, new_channel
from tests.native.crash_scene import (
    answer_the_rest,
    armed_worker,
    ask,
    collect_for,
    died,
    end_of,
    failed_otherwise,
    go_on,
    report_all,
    stopped,
)

from cubbyhole._native import _entries

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.native.crash_scene import Scene

    from cubbyhole.channels.shm import SharedMemoryChannel

# What a worker gives a front its bit in -> where it stops before, the number of the entry that leads there, a point soon after.
LENDING = 79
LENT = {
    "a result": (9, 1, 6),
    "a stream": (10, 2, 12),
    "the first chunk outside of its ring": (80, 4, 11),
    "a later chunk outside of its ring": (80, 2, 11),
}
ARMED = {LENDING, 4, 65, 76}


def reading_front(channel: SharedMemoryChannel, number: int, size: int) -> None:
    port = channel.front(1)
    ask(port, {number}, size)
    while True:
        collect_for(port, {0}, time.monotonic() + 60)


def started(context: Any, target: Any, *arguments: Any) -> Any:
    child = context.Process(target=target, args=arguments, daemon=True)
    child.start()
    return child


def kill(child: Any) -> None:
    child.kill()
    child.join()


def front_then_worker(context: Any, what: str, size: int, *, after: str) -> list[str]:
    """A front dies while a worker is about to lend it a block; then the worker dies, or finds out, or is waited for."""
    stop_at, number, soon = LENT[what]
    channel = new_channel()
    front = started(context, reading_front, channel, number, size)
    # At the point soon after it dies with the entry that it has next: it must have noticed before.
    dies = {"it lives": 0, "it dies soon after": soon}.get(after, LENDING)
    worker = started(context, armed_worker, channel, stop_at, dies, size)
    if wrong := stopped(worker, f"point {stop_at}"):
        return wrong
    kill(front)
    channel.reclaim("front", 1)
    other = channel.front(1 if after == "another front sits there" else 0)
    wanted = {11, 12}
    ask(other, wanted, size)  # perhaps in the same slot
    go_on(worker)
    answered: dict[int, Any] = {}
    if dies:
        wrong = died(worker, f"point {dies}")
    else:
        answered = collect_for(other, wanted, time.monotonic() + 15)
        kill(worker)
    channel.reclaim("worker", 0)
    answered |= answer_the_rest(context, channel, other, wanted - set(answered))
    if wanted - set(answered):
        wrong.append(f"never answered: {sorted(wanted - set(answered))}")
    wrong += failed_otherwise(answered, {"worker_died"})
    del answered
    return wrong + end_of(channel, other)


def worker_then_front(context: Any, what: str, size: int, *, reclaimed: str) -> list[str]:
    """The other order: the worker dies while it lends, then the front; reclaimed in either order."""
    channel = new_channel()
    front = started(context, reading_front, channel, LENT[what][1], size)
    worker = started(context, armed_worker, channel, 0, LENDING, size)
    if wrong := died(worker, f"point {LENDING}"):
        return wrong
    kill(front)
    if reclaimed == "the front first":
        channel.reclaim("front", 1)
        channel.reclaim("worker", 0)
    else:
        channel.reclaim("worker", 0)
        channel.reclaim("front", 1)
    return end_of(channel)


def slot_used_again(context: Any, stop_at: int, size: int, next_size: int) -> list[str]:
    """Between two of a worker's looks at a slot its entry is cancelled and another one is there."""
    channel = new_channel()
    front = channel.front(0)
    ask(front, {1}, size)
    told = context.SimpleQueue()
    worker = started(context, armed_worker, channel, stop_at, 0, INLINE, told)
    if wrong := stopped(worker, f"point {stop_at}"):
        return wrong
    front.cancel(1)
    ask(front, {3}, next_size)
    go_on(worker)
    answered = collect_for(front, {3}, time.monotonic() + 15)
    wrong = [] if answered else [f"never answered; the worker ended as {worker.exitcode}"]
    wrong += failed_otherwise(answered, set())
    del answered
    kill(worker)
    channel.reclaim("worker", 0)
    if (seen := drained(told)) != [(3, next_size, True)]:
        wrong.append(f"the worker saw {seen}")
    return wrong + end_of(channel, front)


def drained(told: Any) -> list[tuple[int, int, bool]]:
    found = []
    while not told.empty():
        found.append(told.get())
    return found


def front_replaced_after_the_claim(context: Any, size: int, next_size: int) -> list[str]:
    """A claim stands, then its front dies and its successor uses the slot: the worker must not read the one for the other."""
    channel = new_channel()
    front = started(context, reading_front, channel, 1, size)
    told = context.SimpleQueue()
    worker = started(context, armed_worker, channel, 5, 0, INLINE, told)
    if wrong := stopped(worker, "point 5"):
        return wrong
    kill(front)
    channel.reclaim("front", 1)
    again = channel.front(1)
    ask(again, {3}, next_size)
    go_on(worker)
    answered = collect_for(again, {3}, time.monotonic() + 15)
    wrong = [] if answered else [f"never answered; the worker ended as {worker.exitcode}"]
    del answered
    if (seen := drained(told)) != [(3, next_size, True)]:
        wrong.append(f"the worker saw {seen}")
    until = time.monotonic() + 5  # it lets go a moment after it has answered
    while channel.statistics().blocks_used and time.monotonic() < until:
        time.sleep(0.002)
    if held := channel.statistics().blocks_used:
        wrong.append(f"{held} blocks are held while the worker waits")
    kill(worker)
    channel.reclaim("worker", 0)
    return wrong + end_of(channel, again)


def extent_lifted(context: Any, stop_at: int, die_at: int) -> list[str]:
    """A worker dies with its hand on a block of an extent that was lifted between its look and its hand."""
    channel = new_channel()
    front = channel.front(0)
    ask(front, {1}, BLOCK)
    worker = started(context, armed_worker, channel, stop_at, die_at, BLOCK)
    if wrong := stopped(worker, f"point {stop_at}"):
        return wrong
    if stop_at == 78:
        front.cancel(1)
    lifting: Any = front  # an observer may not lift
    lifting.entries.segment.trim()
    go_on(worker)
    wrong = died(worker, f"point {die_at}")
    channel.reclaim("worker", 0)
    answered = answer_the_rest(context, channel, front, {1} if stop_at != 78 else set())
    wrong += failed_otherwise(answered, {"worker_died"})
    del answered
    return wrong + end_of(channel, front)


def declared_dead_while_it_claims(context: Any, size: int) -> list[str]:
    """It claims all the same, must give the entry back, and dies in that."""
    channel = new_channel()
    front = channel.front(0)
    ask(front, {1}, size)
    worker = started(context, armed_worker, channel, 78, 76, size)
    if wrong := stopped(worker, "point 78"):
        return wrong
    channel.reclaim("worker", 0)
    go_on(worker)
    if wrong := died(worker, "point 76"):
        return wrong
    channel.reclaim("worker", 0)
    answered = answer_the_rest(context, channel, front, {1})
    wrong = [] if answered else ["never answered"]
    wrong += failed_otherwise(answered, set())
    del answered
    return wrong + end_of(channel, front)


def scenes(context: Any) -> Iterator[Scene]:
    for size in (INLINE, BLOCK, RUN):
        for what in LENT:
            for after in ("it dies", "it dies soon after", "another front sits there", "it lives"):
                name = f"a front dies before it is lent {what}, {size} bytes, {after}"
                how = {"after": after}
                yield name, (front_then_worker, (context, what, size), how)
        for reclaimed in ("the front first", "the worker first"):
            name = (
                f"a worker dies while it lends a result, then the front, {size} bytes, {reclaimed}"
            )
            yield name, (worker_then_front, (context, "a result", size), {"reclaimed": reclaimed})
            name = (
                f"a worker dies while it lends a stream, then the front, {size} bytes, {reclaimed}"
            )
            yield name, (worker_then_front, (context, "a stream", size), {"reclaimed": reclaimed})
        for stop_at in (77, 78):
            for next_size in (INLINE, 300, BLOCK, RUN):
                name = f"a slot is used again at {stop_at}, {size} bytes, then {next_size}"
                yield name, (slot_used_again, (context, stop_at, size, next_size), {})
        for next_size in (INLINE, 300, BLOCK, RUN):
            name = f"a front is replaced after a claim, {size} bytes, then {next_size}"
            yield name, (front_replaced_after_the_claim, (context, size, next_size), {})
        name = f"a worker is declared dead while it claims, {size} bytes"
        yield name, (declared_dead_while_it_claims, (context, size), {})
    for stop_at, die_at in ((78, 4), (64, 65)):
        name = f"an extent is lifted under a hand, from {stop_at} to {die_at}"
        yield name, (extent_lifted, (context, stop_at, die_at), {})


def main() -> None:
    if not _entries.CRASH_POINTS:
        raise SystemExit("this build has no crash points")
    report_all(scenes(multiprocessing.get_context("fork")), sys.argv[1:])


if __name__ == "__main__":
    main()
