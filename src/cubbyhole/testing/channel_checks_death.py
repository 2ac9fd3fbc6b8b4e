# SPDX-License-Identifier: Apache-2.0
"""Checks: processes that die, are declared dead, come again, or stand still; and what is left when all is closed.

The processes are real and end by SIGKILL.

See:   testing/check_channel.py (the suite)
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import tempfile
import threading
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from pathlib import Path
from typing import TYPE_CHECKING

from cubbyhole.core.entries import Chunk, Failure, RequestEntry, Result
from cubbyhole.core.errors import ChannelError, StaleOwner
from cubbyhole.testing.channel_stage import (
    claim,
    collect_until,
    expect,
    outcome_of,
    until,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.connection import Connection

    from cubbyhole.channels.base import Channel, WorkerPort
    from cubbyhole.core.entries import ClaimedEntry
    from cubbyhole.testing.channel_stage import Actor, LiveFront, Stage


# What the processes do ----------------------------------------------------------------------------------------


def play_holder(channel: Channel, said: Connection, index: int, count: int) -> None:
    """Claim `count` entries and hold them until killed."""
    port = channel.worker(index, 0)
    held = claim(port, count)
    said.send([entry.id for entry in held])
    threading.Event().wait()


def play_idler(channel: Channel, said: Connection, index: int) -> None:
    """Wait in `claim` for an entry that never comes."""
    port = channel.worker(index, 0)
    said.send("waiting")
    while True:
        port.claim(1, 60.0)


def play_streamer(channel: Channel, said: Connection, index: int) -> None:
    """Publish two chunks and nothing more."""
    port = channel.worker(index, 0)
    entry = claim(port)[0]
    port.publish(entry, Chunk(b"one"))
    port.publish(entry, Chunk(b"two"))
    said.send("streaming")
    threading.Event().wait()


def play_echo(channel: Channel, said: Connection, index: int) -> None:
    """Answer with what came; ends at a body of b"end"."""
    port = channel.worker(index, 0)
    said.send("ready")
    body = b""
    while body != b"end":
        for entry in port.claim(4, 1.0):
            body = bytes(entry.body)
            port.publish(entry, Result(entry.body, 200, str(os.getpid()).encode()))
    said.recv()  # a worker that leaves at once might take its answer along
    port.close()
    channel.close()


def play_front(channel: Channel, said: Connection, index: int, first_id: int, count: int) -> None:
    """Submit `count` entries; tell what comes back, if it is told to collect."""
    port = channel.front(index)
    for number in range(first_id, first_id + count):
        port.submit(RequestEntry(number, 0, b"from a front"))
    said.send("submitted")
    answered = 0
    while (
        answered < count
    ):  # a front that collects runs its loop, which some channels need to hand out
        answered += len(collect_until(port, 1))
    said.send(answered)
    threading.Event().wait()


def play_everything(channel: Channel | None, said: Connection, create: object) -> None:
    """Be a whole server in one process, with its entries in every state."""
    from cubbyhole.channels.base import ChannelSettings

    del channel
    own: Channel = create(ChannelSettings(slots=64, arena_bytes=32 << 20))  # type: ignore[operator]
    front, worker = own.front(0), own.worker(0, 0)
    answering = threading.Thread(target=lambda: claim(worker), daemon=True)
    answering.start()
    front.submit(RequestEntry(1, 0, bytes(1 << 20)))
    front.submit(RequestEntry(2, 0, b"x"))
    while answering.is_alive():
        front.collect()
    said.send([child.pid for child in multiprocessing.active_children()])
    threading.Event().wait()


# Workers that die ---------------------------------------------------------------------------------------------


def _is_worker_died(front: LiveFront, request_id: int) -> None:
    outcome = front.final(request_id).outcome
    expect(
        type(outcome) is Failure and (outcome.code, outcome.status) == ("worker_died", 503),
        "the front collects that the worker died",
        outcome,
    )


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
    _is_worker_died(front, 1)
    _is_worker_died(front, 2)
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
    _is_worker_died(front, 2)
    worker = stage.worker(1)
    entry = claim(worker)[0]
    expect((entry.id, entry.attempt) == (1, 1), "offered again", entry.id, entry.attempt)
    expect(bytes(entry.body) == body and entry.meta == b"meta", "unchanged")
    worker.publish(entry, Result(b"done"))
    expect(bytes(outcome_of(front.final(1)).body) == b"done", "served")


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


# Declared dead while alive ------------------------------------------------------------------------------------


def _expect_stale(worker: WorkerPort, entry: ClaimedEntry, outcome: Result | Chunk) -> None:
    try:
        worker.publish(entry, outcome)
    except StaleOwner:
        return
    expect(condition=False, what="publishing after reclaim raises StaleOwner")


def what_a_reclaimed_worker_publishes_is_refused(stage: Stage) -> None:
    """A worker that was stopped for too long wakes up and finds its entries given to others."""
    stage.open()
    front, late = stage.front(), stage.worker(0)
    front.submit(
        RequestEntry(1, 0, b"x"),
        RequestEntry(2, 0, b"y", retry_on_death=True),
        RequestEntry(3, 0, b"z"),
    )
    entries = {entry.id: entry for entry in claim(late, 3)}
    expect(late.publish(entries[3], Chunk(b"first")), "a chunk before the reclaim")
    until(lambda: front.streams.get(3), "the chunk")
    stage.channel.reclaim("worker", 0)
    _expect_stale(late, entries[1], Result(b"too late"))
    _expect_stale(late, entries[2], Result(b"too late"))
    _expect_stale(late, entries[3], Chunk(b"too late"))
    _is_worker_died(front, 1)
    _got, end = front.stream_end(3)
    expect(type(end) is Failure and end.code == "worker_died", "the stream has ended", end)
    other = stage.worker(1)
    entry = claim(other)[0]
    expect((entry.id, entry.attempt) == (2, 1), "the other worker has it", entry.id)
    _expect_stale(late, entries[2], Result(b"too late again"))
    other.publish(entry, Result(b"right"))
    expect(bytes(outcome_of(front.final(2)).body) == b"right", "the right answer, once")


def a_reclaimed_worker_claims_nothing_until_it_opens_again(stage: Stage) -> None:
    """Its old port is void; a new one on the same place works."""
    stage.open(workers=1)
    front, old = stage.front(), stage.worker(0)
    front.submit(RequestEntry(1, 0, b"x"))
    claim(old)
    stage.channel.reclaim("worker", 0)
    _is_worker_died(front, 1)
    front.submit(RequestEntry(2, 0, b"y"))
    with suppress(ChannelError):  # as good as claiming nothing: it says why
        expect(old.claim(1, 0.1) == [], "the old port claims nothing")
    new = stage.worker(0)
    entry = claim(new)[0]
    expect(entry.id == 2, "the new port does", entry.id)
    new.publish(entry, Result(b"done"))
    front.final(2)


def publishing_twice_is_refused(stage: Stage) -> None:
    """An entry has one answer."""
    stage.open()
    front, worker = stage.front(), stage.worker()
    front.submit(RequestEntry(1, 0, b"x"))
    entry = claim(worker)[0]
    worker.publish(entry, Result(b"first"))
    _expect_stale(worker, entry, Result(b"second"))
    expect(bytes(outcome_of(front.final(1)).body) == b"first", "the first one counts")


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
    _expect_stale(worker, entries[0], Result(b"for nobody"))
    expect(channel.statistics().slots_used == 0, "all slots are free")
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


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208  (a Path for each would be garbage to collect)


def _shared_files() -> set[str]:
    place = Path("/dev/shm")  # noqa: S108  (looked at, not written to)
    return {str(path) for path in place.iterdir()} if place.is_dir() else set()


@contextmanager
def _expect_no_files() -> Iterator[None]:
    """Give this process and its children an empty directory for temporary files; it must be empty again at the end."""
    before = _shared_files()
    former = os.environ.get("TMPDIR")
    with tempfile.TemporaryDirectory(prefix="cubbyhole-check-") as place:
        os.environ["TMPDIR"] = place
        tempfile.tempdir = None  # let it look again
        try:
            yield
            until(lambda: not os.listdir(place), f"that nothing is left in {place}")  # noqa: PTH208
            until(lambda: not _shared_files() - before, "that nothing is left in /dev/shm")
        finally:
            tempfile.tempdir = None
            if former is None:
                del os.environ["TMPDIR"]
            else:
                os.environ["TMPDIR"] = former


def nothing_is_left_after_close(stage: Stage) -> None:
    """Descriptors, threads, child processes, files."""
    resource_tracker.ensure_running()  # the standard library's own helper stays, once started
    gc.collect()
    descriptors, threads = _descriptors(), threading.active_count()
    children = {child.pid for child in multiprocessing.active_children()}
    with _expect_no_files():
        stage.open()
        front, echo = stage.front(), stage.echo()
        front.submit(*(RequestEntry(number, 0, bytes(100_000)) for number in range(1, 11)))
        front.finals(list(range(1, 11)))
        front.submit(RequestEntry(11, 0, b"left alone"))
        expect(echo.error is None, "no error", echo.error)
        stage.close()
    gc.collect()
    until(lambda: threading.active_count() <= threads, "that all threads have ended")
    gc.collect()
    expect(_descriptors() <= descriptors, "no descriptor is left", _descriptors() - descriptors)
    left = {child.pid for child in multiprocessing.active_children()} - children
    expect(not left, "no child process is left", left)


def restarts_leak_no_descriptors(stage: Stage) -> None:
    """Ten lives of one worker; the front holds no more than before."""
    channel = stage.open(workers=1)
    front = stage.front()

    def live(number: int) -> int:
        worker = channel.worker(0, 0)
        front.submit(RequestEntry(number, 0, b"x"))
        worker.publish(claim(worker)[0], Result(b"y"))
        front.final(number)
        worker.close()
        channel.reclaim("worker", 0)
        front.call(lambda _: None)
        gc.collect()
        return _descriptors()

    first = [live(number) for number in (1, 2)][1]
    last = [live(number) for number in range(3, 12)][-1]
    expect(last <= first + 2, "no more descriptors than after the second life", first, last)


def killing_all_leaves_nothing(stage: Stage) -> None:
    """SIGKILL of the process that made the channel: no helper process and no file survives."""
    create = type(stage.open()).create  # type: ignore[attr-defined]
    stage.close()
    context = multiprocessing.get_context("spawn")
    with _expect_no_files():
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
FENCE_CHECKS = (
    what_a_reclaimed_worker_publishes_is_refused,
    a_reclaimed_worker_claims_nothing_until_it_opens_again,
    publishing_twice_is_refused,
    nothing_is_left_after_close,
    restarts_leak_no_descriptors,
)
