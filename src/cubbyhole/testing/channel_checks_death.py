# SPDX-License-Identifier: Apache-2.0
"""Checks: processes that die, are declared dead, come again, or stand still; and what is left when all is closed.

The processes are real and end by SIGKILL.

See:   testing/check_channel.py (the suite)
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, cast

from cubbyhole.core.entries import POISON_AFTER, Failure, RequestEntry, Result
from cubbyhole.core.errors import StaleOwner
from cubbyhole.testing.channel_checks_fence import expect_no_files, is_worker_died
from cubbyhole.testing.channel_plays import (
    play_echo,
    play_everything,
    play_front,
    play_holder,
    play_idler,
    play_streamer,
)
from cubbyhole.testing.channel_stage import (
    claim,
    collect_until,
    expect,
    outcome_of,
    until,
)

if TYPE_CHECKING:
    from cubbyhole.testing.channel_stage import Actor, Stage


# Workers that die ---------------------------------------------------------------------------------------------


def _kill(stage: Stage, actor: Actor, index: int) -> int:
    actor.kill()
    return stage.channel.reclaim("worker", index)


def a_killed_workers_entries_fail(stage: Stage) -> None:
    """Exactly those that it held; the others are served. `reclaim` says how many, and repeating it does nothing."""
    stage.open()
    front = stage.front()
    actor = stage.actor(play_holder, 0, 2)
    front.submit(RequestEntry(1, 0, b"x"), RequestEntry(2, 0, b"y"))
    expect(sorted(actor.hears()) == [1, 2], "the process holds both")
    front.submit(RequestEntry(3, 0, b"z"))
    count = _kill(stage, actor, 0)
    expect(count == 2, "reclaim returns 2", count)
    expect(stage.channel.reclaim("worker", 0) == 0, "repeated, it returns 0")
    is_worker_died(front, 1)
    is_worker_died(front, 2)
    worker = stage.worker(1)
    worker.publish(claim(worker)[0], Result(b"served"))
    expect(bytes(outcome_of(front.final(3)).body) == b"served", "the third one is served")
    statistics = stage.channel.statistics()
    expect(statistics.reclaimed_total == 2, "reclaimed entries", statistics.reclaimed_total)
    until(lambda: stage.channel.statistics().slots_used == 0, "that all slots are free")


def a_killed_workers_entries_are_offered_again_if_they_ask(stage: Stage) -> None:
    """With `retry_on_death`; the next worker sees attempt 1, and the body as it was."""
    stage.open()
    front = stage.front()
    actor = stage.actor(play_holder, 0, 2)
    body = os.urandom(200_000)
    front.submit(RequestEntry(1, 0, body, b"meta", retry_on_death=True), RequestEntry(2, 0, b"y"))
    actor.hears()
    _kill(stage, actor, 0)
    is_worker_died(front, 2)
    worker = stage.worker(1)
    entry = claim(worker)[0]
    expect((entry.id, entry.attempt) == (1, 1), "offered again", entry.id, entry.attempt)
    expect(bytes(entry.body) == body and entry.meta == b"meta", "unchanged")
    worker.publish(entry, Result(b"done"))
    expect(bytes(outcome_of(front.final(1)).body) == b"done", "served")


def an_entry_that_kills_worker_after_worker_is_poison(stage: Stage) -> None:
    """With `retry_on_death` it is offered again, but not for ever; its neighbours are served."""
    stage.open(workers=POISON_AFTER + 1)
    front = stage.front()
    front.submit(RequestEntry(1, 0, b"x", retry_on_death=True))
    for index in range(POISON_AFTER):
        actor = stage.actor(play_holder, index, 1)
        actor.hears()
        _kill(stage, actor, index)
    outcome = front.final(1).outcome
    expect(type(outcome) is Failure, "it fails", outcome)
    failure = cast("Failure", outcome)
    expect((failure.code, failure.status) == ("poison", 500), "as poison", failure)
    echo = stage.echo(POISON_AFTER)
    front.submit(RequestEntry(2, 0, b"y", retry_on_death=True))
    front.finals([2])
    expect(echo.claimed == [2], "nobody else gets it", echo.claimed)
    until(lambda: stage.channel.statistics().slots_used == 0, "that all slots are free")


def a_worker_killed_while_it_waits_holds_up_nobody(stage: Stage) -> None:
    """A dead waiter must not keep a lock, nor take an entry along."""
    stage.open(workers=3)
    front = stage.front()
    actors = [stage.actor(play_idler, index) for index in (0, 1)]
    for actor in actors:
        actor.hears()
    echo = stage.echo(2)
    for index, actor in enumerate(actors):
        _kill(stage, actor, index)
    ids = list(range(1, 41))
    front.submit(*(RequestEntry(number, 0, b"x") for number in ids))
    front.finals(ids)
    expect(sorted(echo.claimed) == ids, "the other worker serves all", len(echo.claimed))


def a_worker_killed_in_mid_stream_ends_the_stream(stage: Stage) -> None:
    """With what it had sent, then worker_died; retrying would send the beginning twice."""
    stage.open()
    front = stage.front()
    front.submit(RequestEntry(1, 0, b"x", retry_on_death=True))
    actor = stage.actor(play_streamer, 0)
    actor.hears()
    until(lambda: front.streams.get(1), "the first chunks")
    _kill(stage, actor, 0)
    got, end = front.stream_end(1)
    expect(b"".join(got) == b"onetwo", "what was sent", got)
    expect(type(end) is Failure and end.code == "worker_died", "and then the death", end)


def a_worker_may_come_again(stage: Stage) -> None:
    """The same place is opened by a new process after kill and reclaim; three lives."""
    stage.open(workers=1)
    front = stage.front()
    pids = set()
    for life in range(3):
        actor = stage.actor(play_echo, 0)
        actor.hears()
        front.submit(RequestEntry(life + 1, 0, b"hello"))
        pids.add(outcome_of(front.final(life + 1)).meta)
        _kill(stage, actor, 0)
    expect(len(pids) == 3, "three processes answered", pids)


def an_answer_given_before_the_death_counts(stage: Stage) -> None:
    """What was published is delivered, whatever happens to the worker afterwards."""
    stage.open()
    front = stage.front()
    actor = stage.actor(play_echo, 0)
    actor.hears()
    front.submit(RequestEntry(1, 0, b"hello"))
    front.final(1)
    _kill(stage, actor, 0)
    expect(bytes(outcome_of(front.final(1)).body) == b"hello", "the answer stays the answer")
    statistics = stage.channel.statistics()
    expect(statistics.reclaimed_total == 0, "nothing was there to reclaim", statistics)


# Fronts that die ----------------------------------------------------------------------------------------------


def a_killed_front_gives_its_place_back(stage: Stage) -> None:
    """Its entries go, its worker is told, and a new front on the same place is served by the same worker."""
    channel = stage.open(slots=64)
    worker = stage.worker()
    actor = stage.actor(play_front, 0, 1, 64)
    expect(actor.hears() == "submitted", "the front is full")
    entries = claim(worker, 2)
    actor.kill()
    count = channel.reclaim("front", 0)
    expect(count == 64, "reclaim returns 64", count)
    expect(channel.reclaim("front", 0) == 0, "repeated, it returns 0")
    until(lambda: all(entry.cancelled for entry in entries), "that the worker sees the flag")
    for entry in entries:
        with suppress(StaleOwner):  # refused or dropped, as the channel likes: nobody waits for it
            worker.publish(entry, Result(b"for nobody"))
    until(lambda: channel.statistics().slots_used == 0, "that all slots are free")
    front = stage.front()
    ids = list(range(101, 165))
    front.submit(*(RequestEntry(number, 0, b"new") for number in ids))
    for entry in claim(worker, len(ids)):
        expect(entry.id in ids, "entries of the new front only", entry.id)
        worker.publish(entry, Result(entry.body))
    front.finals(ids)


def a_front_works_in_its_own_process(stage: Stage) -> None:
    """Front and worker both spawned, the channel pickled into each."""
    channel = stage.open(fronts=2)
    worker = stage.actor(play_echo, 0)
    fronts = [stage.actor(play_front, index, 1 + 100 * index, 20) for index in (0, 1)]
    worker.hears()
    for front in fronts:
        expect(front.hears() == "submitted", "entries are submitted")
        expect(front.hears() == 20, "and answered")
    expect(channel.statistics().published_total == 40, "the counters are those of all processes")
    expect(channel.statistics().kind == channel.kind, "by this channel")


def a_channel_survives_fork(stage: Stage) -> None:
    """A forked child opens its port on the channel that it inherited."""
    channel = stage.open()
    context = multiprocessing.get_context("fork")
    mine, theirs = context.Pipe()
    child = context.Process(target=play_echo, args=(channel, theirs, 0), daemon=True)
    child.start()
    try:
        front = stage.raw_front()
        front.submit(RequestEntry(1, 0, b"end"))
        item = collect_until(front, 1)[0]
        expect(bytes(outcome_of(item).body) == b"end", "the forked child answers")
        expect(outcome_of(item).meta == str(child.pid).encode(), "it was the child")
        mine.send("leave")
        child.join(10.0)
        expect(child.exitcode == 0, "it ends", child.exitcode)
    finally:
        child.kill()
        child.join()
        child.close()
        mine.close()
        theirs.close()


# Standing still, and the end ----------------------------------------------------------------------------------


def a_stopped_worker_blocks_no_front(stage: Stage) -> None:
    """SIGSTOP while it holds an entry; hundreds are submitted and served by another meanwhile."""
    stage.open(slots=512)
    front = stage.front()
    actor = stage.actor(play_idler, 0)
    actor.hears()
    pid = actor.process.pid or 0
    os.kill(pid, signal.SIGSTOP)
    try:
        ids = list(range(1, 301))
        front.submit(*(RequestEntry(number, 0, bytes(16_384)) for number in ids))
        echo = stage.echo(1, max_entries=8)
        # The stopped one may have asked for an entry before it was stopped; that one waits with it.
        until(lambda: len(echo.claimed) >= len(ids) - 1, "that the other worker serves the rest")
        rest = echo.claimed[:]
        front.finals(rest)
    finally:
        os.kill(pid, signal.SIGCONT)
    _kill(stage, actor, 0)
    for number in set(ids) - set(rest):
        front.finals([number])


def killing_all_leaves_nothing(stage: Stage) -> None:
    """SIGKILL of the process that made the channel: no helper process and no file survives."""
    create = type(stage.open()).create  # type: ignore[attr-defined]
    stage.close()
    context = multiprocessing.get_context("spawn")
    with expect_no_files():
        mine, theirs = context.Pipe()
        process = context.Process(target=play_everything, args=(None, theirs, create))
        process.start()
        theirs.close()
        try:
            expect(mine.poll(10.0), "the process is ready")
            helpers = mine.recv()
        finally:
            process.kill()
            process.join()
            process.close()
            mine.close()
        for pid in helpers:
            until(lambda pid=pid: _is_gone(pid), f"that helper process {pid} ends")  # type: ignore[misc]


def _is_gone(pid: int) -> bool:
    """Whether a process has ended (a zombie has, though nobody asked for its status yet)."""
    try:
        return (
            Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]
            == "Z"
        )
    except FileNotFoundError:
        return True


DEATH_CHECKS = (
    a_killed_workers_entries_fail,
    a_killed_workers_entries_are_offered_again_if_they_ask,
    an_entry_that_kills_worker_after_worker_is_poison,
    a_worker_killed_while_it_waits_holds_up_nobody,
    a_worker_killed_in_mid_stream_ends_the_stream,
    a_worker_may_come_again,
    an_answer_given_before_the_death_counts,
    a_killed_front_gives_its_place_back,
    a_front_works_in_its_own_process,
    a_channel_survives_fork,
    a_stopped_worker_blocks_no_front,
    killing_all_leaves_nothing,
)
