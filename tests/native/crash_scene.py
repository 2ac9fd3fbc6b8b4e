# SPDX-License-Identifier: Apache-2.0
"""What crash_entries.py and crash_orders.py share: who works on the other side, and what must not be left.

Run against a build with crash points only, so nothing here is a test by itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import struct
import sys
import time
from typing import TYPE_CHECKING, Any

from cubbyhole._native import _entries, _segment
from cubbyhole.core.entries import Chunk, Failure, RequestEntry, Result
from cubbyhole.core.errors import ChannelError, StaleOwner

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from cubbyhole.channels.base import FrontPort, WorkerPort
    from cubbyhole.channels.shm import SharedMemoryChannel

    Scene = tuple[str, tuple[Callable[..., list[str]], tuple[Any, ...], dict[str, Any]]]

ARENA = 32 << 20
BIG = b"B" * 60_000  # a chunk that does not fit the ring of a stream
PATIENCE_S = 15
HOLDERS_FIELD, BODY_FIELD = 6, 7  # of the header: cbh_layout.h
HEAD = struct.Struct("<QIIQQQQQ")


def fill_arena(port: FrontPort | WorkerPort, size: int) -> None:
    """Take all there is in blocks of one size and let go of it: whoever wants another size must lift their extents."""
    held = []
    with contextlib.suppress(ChannelError):
        while True:
            held.append(port.reserve(size))
    held.clear()


def answer(port: WorkerPort, entry: Any, size: int) -> None:
    """Odd entries get a result, even ones a stream with a chunk that travels outside of its ring: every second one at once."""
    if entry.id % 2:
        port.publish(entry, Result(bytes(size), meta=b"m" * 30))
        return
    for chunk in (BIG, b"three") if entry.id % 4 == 0 else (b"one", BIG, b"three"):
        while not port.publish(entry, Chunk(chunk, meta=b"head"), 5.0) and not entry.cancelled:
            pass
    port.publish(entry, Result(b""))


def good_worker(channel: SharedMemoryChannel, turns: int) -> None:
    """Give short answers to what comes in so many turns, and leave."""
    port = channel.worker(0, 0)
    for _ in range(turns):
        for entry in port.claim(1, 0.05):
            with contextlib.suppress(StaleOwner):
                port.publish(entry, Result(bytes(entry.body)))
    port.close()


def steady_worker(channel: SharedMemoryChannel, size: int, over: Any) -> None:
    """Answer until it is told that all is over, whatever becomes of the fronts."""
    port = channel.worker(0, 0)
    while not over.is_set():
        for entry in port.claim(2, 0.05):
            with contextlib.suppress(StaleOwner):
                answer(port, entry, size)
            del entry
    port.close()


def armed_worker(
    channel: SharedMemoryChannel, stop_at: int, die_at: int, size: int, told: Any = None
) -> None:
    """Stop at one point of the core and die at another; 0: at none. Tells of what it claims: id, size, whole."""
    _entries.arm_stop_point(stop_at)
    _segment.arm_crash_point(die_at if die_at == SITTING_DOWN else 0)
    port = channel.worker(0, 0)
    if die_at in LIFTS:
        fill_arena(port, 4000 if LIFTS[die_at] > 1 << 18 else 400_000)
    _entries.arm_crash_point(die_at)
    while True:
        for entry in port.claim(2, 5.0):
            if told is not None:
                body = bytes(entry.body)
                told.put((entry.id, len(body), body == body_of(entry.id, len(body))))
            with contextlib.suppress(StaleOwner):
                answer(port, entry, size)
            del entry


SITTING_DOWN = 90
LIFTS = {60: 400_000, 61: 400_000, 62: 5_000, 63: 5_000}  # heap point -> bytes that lead there


def collect_for(front: FrontPort, wanted: set[int], until: float) -> dict[int, Any]:
    """What became of the entries, as far as it is known in time."""
    answered: dict[int, Any] = {}
    while wanted - set(answered) and time.monotonic() < until:
        select.select([front.fileno()], [], [], 0.1)
        for news in front.collect():
            outcome = news.outcome if news.outcome is not None else front.take_chunks(news.id).end
            if outcome is not None:
                answered[news.id] = outcome
    return answered


def died(child: Any, what: str) -> list[str]:
    """Nothing, or that the process did not come by where it should have died."""
    child.join(PATIENCE_S)
    if child.exitcode == -signal.SIGKILL:
        return []
    child.kill()
    child.join()
    return [f"{what} was not reached: exit code {child.exitcode}"]


def stopped(child: Any, what: str) -> list[str]:
    """Wait until it stops (or ends, or time is over: then it did not come by)."""
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        how = os.WSTOPPED | os.WEXITED | os.WNOWAIT | os.WNOHANG
        seen = os.waitid(os.P_PID, child.pid, how)
        if seen is not None and seen.si_code == os.CLD_STOPPED:
            return []
        if seen is not None:
            break
        time.sleep(0.002)
    child.kill()
    child.join()
    return [f"{what} was not reached: exit code {child.exitcode}"]


def go_on(child: Any) -> None:
    """Let a stopped process run."""
    os.kill(child.pid, signal.SIGCONT)


def left_over(channel: SharedMemoryChannel) -> list[str]:
    """Slots, blocks and single bits that are still held, with nobody under way."""
    statistics = channel.statistics()
    wrong = []
    if statistics.slots_used:
        wrong.append(f"{statistics.slots_used} slots lost: {channel.snapshot()}")
    if statistics.blocks_used:
        wrong.append(f"{statistics.blocks_used} blocks lost")
    fd = channel._fd
    head = HEAD.unpack(os.pread(fd, HEAD.size, 0))
    holders = os.pread(fd, head[BODY_FIELD] - head[HOLDERS_FIELD], head[HOLDERS_FIELD])
    if holders.strip(
        b"\0"
    ):  # also where no block is now: the next one there could never be given out
        at = len(holders) - len(holders.lstrip(b"\0"))
        wrong.append(f"a bit is left in word {at // 8} of the holders")
    return wrong


def end_of(channel: SharedMemoryChannel, front: FrontPort | None = None) -> list[str]:
    """Nothing is left, and the arena can be had as a whole."""
    wrong = left_over(channel)
    if front is not None:
        front.close()
    port = channel.worker(0, 0)
    try:
        del_me = port.reserve(ARENA - 4096)
        del del_me
    except ChannelError as error:
        wrong.append(f"the arena is not free as a whole: {error}")
    port.close()
    channel.close()
    return wrong


def body_of(number: int, size: int) -> bytes:
    """Bytes that tell whose they are."""
    return bytes([number % 251]) * size


def ask(front: FrontPort, ids: set[int], size: int, **how: Any) -> None:
    """Submit entries of one size."""
    for number in sorted(ids):
        body = body_of(number, size)
        front.submit(RequestEntry(number, 0, body, meta=b"m" * (size % 900), **how))


def answer_the_rest(
    context: Any, channel: SharedMemoryChannel, front: FrontPort, wanted: set[int]
) -> dict[int, Any]:
    """Collect what is there, then let a good worker answer what is not."""
    answered = collect_for(front, wanted, time.monotonic() + 0.1)
    if wanted - set(answered):
        second = context.Process(target=good_worker, args=(channel, 8))
        second.start()
        answered |= collect_for(front, wanted - set(answered), time.monotonic() + 5)
        second.join(PATIENCE_S)
    return answered


def failed_otherwise(answered: dict[int, Any], allowed: set[str]) -> list[str]:
    """Failures that are not of the kind that follows from what happened."""
    failed = {k: v.code for k, v in answered.items() if isinstance(v, Failure)}
    return [f"failed otherwise: {failed}"] if set(failed.values()) - allowed else []


def report_all(scenes: Iterable[Scene], options: list[str]) -> None:
    """Play the scenes, of whose names a part may be given; `--first`: until one goes wrong. Prints what was wrong as JSON."""
    only = "".join(option for option in options if option != "--first")
    found: dict[str, list[str]] = {}
    for name, (play, arguments, how) in scenes:
        if only not in name:
            continue
        try:
            found[name] = play(*arguments, **how)
        except ChannelError as error:
            found[name] = [f"{type(error).__name__}: {error}"]
        sys.stderr.write(
            f"{name}: {found[name] or 'nothing'}\n"
        )  # so that a scene that hangs is known
        if found[name] and "--first" in options:
            break
    json.dump(found, sys.stdout)
