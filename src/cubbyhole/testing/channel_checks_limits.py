# SPDX-License-Identifier: Apache-2.0
"""Checks: what does not fit is refused at once, and who sleeps is woken.

See:   testing/check_channel.py (the suite)
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from cubbyhole.core.clock import now_ns
from cubbyhole.core.entries import Failure, RequestEntry, Result
from cubbyhole.core.errors import ChannelFull, EntryTooLarge
from cubbyhole.testing.channel_stage import (
    claim,
    collect_until,
    expect,
    is_readable,
    settle,
    until,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from cubbyhole.channels.base import WorkerPort
    from cubbyhole.core.entries import ClaimedEntry
    from cubbyhole.testing.channel_stage import LiveFront, Stage


# Limits -------------------------------------------------------------------------------------------------------


def no_free_slot_is_channel_full_at_once(stage: Stage) -> None:
    """With `slots` in flight the next one is refused; after draining it works again. Twice."""
    stage.open(slots=64)
    front = stage.front()
    for start in (1, 101):
        front.submit(*(RequestEntry(start + step, 0, b"x") for step in range(64)))
        _expect_full(front, RequestEntry(start + 70, 0, b"one too many"))
        worker = stage.worker()
        _echo(worker, 64)
        front.finals(list(range(start, start + 64)))
        worker.close()
    expect(not front.seen(71), "what was refused never happened")


def no_room_is_channel_full_at_once(stage: Stage) -> None:
    """`arena_bytes` bounds what is in flight; after draining it works again."""
    stage.open(slots=64, arena_bytes=32 << 20)
    front, worker = stage.front(), stage.worker()
    for start in (100, 200):
        accepted: list[int] = []
        while len(accepted) < 33:
            try:
                front.submit(RequestEntry(start + len(accepted), 0, bytes(3 << 20)))
            except ChannelFull:
                break
            accepted.append(start + len(accepted))
        expect(3 <= len(accepted) <= 10, "32 MiB hold 3 to 10 bodies of 3 MiB", len(accepted))
        for entry in claim(worker, len(accepted)):
            worker.publish(entry, Result(b"done"))
        del entry
        front.finals(accepted)


def what_can_never_fit_is_entry_too_large(stage: Stage) -> None:
    """At submit and reserve; and at publish, where the entry stays claimed so that it can be failed."""
    stage.open(arena_bytes=16 << 20)
    front, worker = stage.front(), stage.worker()
    huge = bytes(17 << 20)
    _expect_too_large("submit", lambda: front.submit(RequestEntry(1, 0, huge)))
    _expect_too_large("reserve", lambda: front.call(lambda port: port.reserve(len(huge))))
    _expect_too_large("the worker's reserve", lambda: worker.reserve(len(huge)))
    front.submit(RequestEntry(2, 0, b"x"))
    entry = claim(worker)[0]
    _expect_too_large("publish", lambda: worker.publish(entry, Result(huge)))
    worker.publish(entry, Failure("result_too_large", 500, "too large"))
    outcome = front.final(2).outcome
    expect(type(outcome) is Failure and outcome.code == "result_too_large", "the failure", outcome)


# Wake-ups -----------------------------------------------------------------------------------------------------


def the_fronts_descriptor_tells_the_truth(stage: Stage) -> None:
    """Quiet when nothing is there, readable when something is, quiet again after `collect`."""
    stage.open()
    port = stage.raw_front()
    expect(settle(port) == [], "nothing yet")
    echo = stage.echo()
    for number in (1, 2, 3):
        port.submit(RequestEntry(number, 0, b"x"))
        items = collect_until(port, 1)
        expect([item.id for item in items] == [number], "the one that was answered", items)
    echo.close()
    expect(settle(port) == [], "nothing more, and quiet")


def many_results_need_no_wakeup_each(stage: Stage) -> None:
    """Whatever is collected, only when the descriptor says so: no result is left behind."""
    stage.open(slots=128)
    port = stage.raw_front()
    stage.echo(max_entries=64)
    ids = list(range(1, 101))
    for number in ids:
        port.submit(RequestEntry(number, 0, b"x"))
    items = collect_until(port, len(ids))
    expect(sorted(item.id for item in items) == ids, "all of them, once", len(items))


def claim_waits_as_long_as_asked_and_no_longer(stage: Stage) -> None:
    """It waits for the first entry only, and returns as soon as that is there."""
    stage.open()
    front, worker = stage.front(), stage.worker()
    start = now_ns()
    expect(worker.claim(1, 0.15) == [], "nothing is there")
    waited_ms = (now_ns() - start) / 1e6
    expect(waited_ms >= 140, "it waits for wait_s", waited_ms)
    claimed: list[ClaimedEntry] = []
    thread = threading.Thread(target=lambda: claimed.extend(worker.claim(4, 60.0)))
    thread.start()
    front.submit(RequestEntry(1, 0, b"x"))
    thread.join(10.0)
    expect(not thread.is_alive(), "a claim of 60 s returns once an entry is there")
    expect([entry.id for entry in claimed] == [1], "with that entry, not waiting for more", claimed)


def an_event_loop_can_listen(stage: Stage) -> None:
    """`listen`, then the worker's descriptor becomes readable at the next submit, and `claim` makes it quiet."""
    stage.open()
    front, worker = stage.front(), stage.worker()
    for number in (1, 2, 3):
        until(worker.listen, "that listen() finds nothing and asks for a ring")
        front.submit(RequestEntry(number, 0, b"x"))
        expect(is_readable(worker.fileno(), 5.0), "the descriptor is readable after the submit")
        entries = until(lambda: worker.claim(4, 0.0), "a claim without waiting")
        expect([entry.id for entry in entries] == [number], "the entry", entries)
    front.submit(RequestEntry(4, 0, b"x"))
    until(lambda: not worker.listen(), "that listen() says something is ready already")
    expect(claim(worker)[0].id == 4, "the entry")
    expect(worker.claim(4, 0.0) == [], "nothing more")


def no_wakeup_is_lost(stage: Stage) -> None:
    """One in flight, back and forth, each side asleep when the other acts."""
    stage.open()
    port = stage.raw_front()
    echo = stage.echo(max_entries=1)
    for number in range(1, 151):
        port.submit(RequestEntry(number, 0, b"x"))
        collect_until(port, 1)
    expect(len(echo.claimed) == 150, "150 round trips", len(echo.claimed))


def _echo(worker: WorkerPort, count: int) -> None:
    for entry in claim(worker, count):
        worker.publish(entry, Result(entry.body))


def _expect_full(front: LiveFront, entry: RequestEntry) -> None:
    try:
        front.submit(entry)
    except ChannelFull:
        return
    expect(condition=False, what="a full channel raises ChannelFull")


def _expect_too_large(what: str, act: Callable[[], object]) -> None:
    try:
        act()
    except EntryTooLarge:
        return
    expect(condition=False, what=f"{what} raises EntryTooLarge for what can never fit")


LIMIT_CHECKS = (
    no_free_slot_is_channel_full_at_once,
    no_room_is_channel_full_at_once,
    what_can_never_fit_is_entry_too_large,
    the_fronts_descriptor_tells_the_truth,
    many_results_need_no_wakeup_each,
    claim_waits_as_long_as_asked_and_no_longer,
    an_event_loop_can_listen,
    no_wakeup_is_lost,
)
