# SPDX-License-Identifier: Apache-2.0
"""Checks: what an operator may do through the supervisor's end, to entries of any front; or that the channel says that it cannot.

See:   testing/check_channel.py (the suite)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cubbyhole.core.entries import CANCELLED_BY_OPERATOR, Chunk, RequestEntry, Result
from cubbyhole.core.errors import NotOffered
from cubbyhole.testing.channel_plays import play_echo
from cubbyhole.testing.channel_stage import (
    ContractBroken,
    claim,
    collect_until,
    expect,
    is_readable,
    outcome_of,
    until,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from cubbyhole.testing.channel_stage import LiveFront, Stage

_RETRIES = 200
_RACES = 400


def _refused(act: Callable[[], object]) -> None:
    try:
        found = act()
    except NotOffered:
        return
    raise ContractBroken(f"operated=False, but the channel did as if it could: {found!r}")


def _is_cancelled(front: LiveFront, request_id: int) -> None:
    outcome = front.final(request_id).outcome
    expect(outcome == CANCELLED_BY_OPERATOR, f"entry {request_id} is answered as such", outcome)


def an_operator_takes_a_waiting_entry_back(stage: Stage) -> None:
    """Where `operated` is declared: its client is answered at once, no worker sees it, its slot is free again."""
    channel = stage.open()
    front = stage.front()
    front.submit(*(RequestEntry(number, 0, b"x") for number in (1, 2, 3)))
    if not channel.capabilities.operated:
        _refused(lambda: channel.cancel(2))
        _refused(lambda: channel.rerank(2, 0))
        return
    try:
        taken_back = channel.cancel(2)
    except NotOffered as error:
        raise ContractBroken("operated=True, but cancel() is not offered") from error
    expect(taken_back is True, "cancel() of an unclaimed entry says that no worker sees it")
    _is_cancelled(front, 2)  # no worker is there yet
    worker = stage.worker()
    ids = [entry.id for entry in claim(worker, 2)]
    expect(ids == [1, 3], "the others", ids)
    expect(worker.claim(4, 0.1) == [], "never the cancelled one")
    used = channel.statistics().slots_used
    expect(used == 2, "its slot is free again", used)
    expect(channel.statistics().cancelled_total == 1, "it is counted, once")
    expect(channel.cancel(2) is None, "the second time there is nothing to cancel")
    expect(channel.cancel(12345) is None, "nor is one that never was")


def an_operator_cancels_what_a_worker_has(stage: Stage) -> None:
    """The worker sees it, the client does not wait for that, and what is published nevertheless goes to nobody."""
    channel = stage.open()
    if not channel.capabilities.operated:
        return
    front, worker = stage.front(), stage.worker()
    front.submit(RequestEntry(1, 0, b"x"), RequestEntry(2, 0, b"y"))
    entries = {entry.id: entry for entry in claim(worker, 2)}
    expect(channel.cancel(1) is False, "a worker has it already")
    until(lambda: entries[1].cancelled, "that the worker sees the flag")
    expect(not entries[2].cancelled, "only the one that was cancelled")
    _is_cancelled(front, 1)  # before the worker says anything
    worker.publish(entries[1], Result(b"for nobody"))
    worker.publish(entries[2], Result(b"for somebody"))
    front.final(2)
    until(lambda: channel.statistics().slots_used == 0, "that both slots are free")
    front.submit(RequestEntry(3, 0, b"z"))
    entry = claim(worker)[0]
    expect(not entry.cancelled, "the next entry in that slot is not cancelled")
    worker.publish(entry, Result(b"served"))
    expect(bytes(outcome_of(front.final(3)).body) == b"served", "and it is served")


def a_worker_sees_it_while_the_front_stands_still(stage: Stage) -> None:
    """Whoever wants to end a request must not need the front that had it."""
    channel = stage.open()
    if not channel.capabilities.operated:
        return
    front, worker = stage.raw_front(), stage.worker()
    front.submit(RequestEntry(1, 0, b"x"))
    entry = claim(worker)[0]
    expect(channel.cancel(1) is False, "a worker has it already")
    expect(entry.cancelled, "it sees the flag, though its front has not looked")
    expect(is_readable(front.fileno()), "its front is told")


def an_operator_cancels_a_stream(stage: Stage) -> None:
    """It ends at its client, its writer is not left waiting, and nothing stays."""
    channel = stage.open()
    if not channel.capabilities.operated:
        return
    front, worker = stage.front(), stage.worker()
    front.reading = False
    front.submit(RequestEntry(1, 0, b"x"))
    entry = claim(worker)[0]
    while worker.publish(entry, Chunk(bytes(4096))) and not entry.cancelled:
        if channel.statistics().chunks_total == 3:
            channel.cancel(1)
    _is_cancelled(front, 1)
    worker.publish(entry, CANCELLED_BY_OPERATOR)
    until(lambda: channel.statistics().slots_used == 0, "that the slot is free")
    until(lambda: channel.statistics().blocks_used == 0, "that no block is left")


def an_operator_changes_the_order_in_flight(stage: Stage) -> None:
    """Upwards and downwards, of entries that wait; one that a worker has, or had, is left as it is."""
    channel = stage.open()
    if not channel.capabilities.operated:
        return
    front, worker = stage.front(), stage.worker()
    front.submit(*(RequestEntry(number, 0, b"x", rank=100 + number) for number in range(1, 6)))
    expect(channel.rerank(4, 1) is True, "it waits, so it is done")
    expect(channel.rerank(1, 999) is True, "it waits, so it is done")
    ids = [entry.id for entry in claim(worker, 1)]
    expect(ids == [4], "the one that was raised comes first", ids)
    expect(channel.rerank(4, 0) is False, "a worker has it")
    rest = claim(worker, 4)
    ids = [entry.id for entry in rest]
    expect(ids == [2, 3, 5, 1], "the one that was lowered comes last", ids)
    worker.publish(rest[0], Result(b"done"))
    front.final(2)
    expect(channel.rerank(2, 0) is None, "it is over")
    expect(channel.rerank(12345, 0) is None, "it never was")


def a_new_rank_loses_no_entry_and_is_no_other_entrys(stage: Stage) -> None:
    """While workers claim and fronts submit into the same slots again and again."""
    channel = stage.open(slots=64)
    if not channel.capabilities.operated:
        return
    front = stage.front()
    workers = [stage.echo(index) for index in (0, 1)]
    done = 0
    for start in range(1, 1 + 10 * _RETRIES, 10):
        ids = list(range(start, start + 10))
        front.submit(*(RequestEntry(number, 0, b"x", rank=number) for number in ids))
        for number in ids:
            done += channel.rerank(number, 5) is True
        front.finals(ids)
        if done > _RETRIES:
            break
    claimed = sorted(number for worker in workers for number in worker.claimed)
    expect(claimed == sorted(set(claimed)), "each was claimed once", len(claimed))
    until(lambda: channel.statistics().slots_used == 0, "that all slots are free")


def a_new_rank_loses_nothing_that_a_process_is_about_to_claim(stage: Stage) -> None:
    """A worker that looks at an entry just while it is out of the queue must be told again that it is there.

    How often a new rank comes in between is chance. The moment itself is made in tests/native/rerank_between.c.
    """
    channel = stage.open()
    if not channel.capabilities.operated:
        return
    worker = stage.actor(play_echo, 0)
    worker.hears()
    front = stage.raw_front()
    done = 0
    for number in range(1, 1 + _RACES):
        front.submit(RequestEntry(number, 0, b"x"))
        while channel.rerank(number, done):  # until the worker has it
            done += 1
        collect_until(front, 1)


OPERATE_PROCESS_CHECKS = (a_new_rank_loses_nothing_that_a_process_is_about_to_claim,)
OPERATE_CHECKS = (
    an_operator_takes_a_waiting_entry_back,
    an_operator_cancels_what_a_worker_has,
    a_worker_sees_it_while_the_front_stands_still,
    an_operator_cancels_a_stream,
    an_operator_changes_the_order_in_flight,
    a_new_rank_loses_no_entry_and_is_no_other_entrys,
)
