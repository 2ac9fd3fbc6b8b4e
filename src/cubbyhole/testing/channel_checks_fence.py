# SPDX-License-Identifier: Apache-2.0
"""Checks: processes that are declared dead while they live, and what is left when all is closed.

See:   testing/check_channel.py (the suite)
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import tempfile
import threading
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from pathlib import Path
from typing import TYPE_CHECKING

from cubbyhole.core.entries import Chunk, Failure, RequestEntry, Result
from cubbyhole.core.errors import ChannelError, StaleOwner
from cubbyhole.testing.channel_stage import claim, expect, outcome_of, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cubbyhole.channels.base import WorkerPort
    from cubbyhole.core.entries import ClaimedEntry
    from cubbyhole.testing.channel_stage import LiveFront, Stage


def is_worker_died(front: LiveFront, request_id: int) -> None:
    """Expect that an entry failed because its worker died."""
    outcome = front.final(request_id).outcome
    expect(
        type(outcome) is Failure and (outcome.code, outcome.status) == ("worker_died", 503),
        "the front collects that the worker died",
        outcome,
    )


# Declared dead while alive ------------------------------------------------------------------------------------


def expect_stale(worker: WorkerPort, entry: ClaimedEntry, outcome: Result | Chunk) -> None:
    """Expect that publishing is refused."""
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
    expect_stale(late, entries[1], Result(b"too late"))
    expect_stale(late, entries[2], Result(b"too late"))
    expect_stale(late, entries[3], Chunk(b"too late"))
    is_worker_died(front, 1)
    _got, end = front.stream_end(3)
    expect(type(end) is Failure and end.code == "worker_died", "the stream has ended", end)
    other = stage.worker(1)
    entry = claim(other)[0]
    expect((entry.id, entry.attempt) == (2, 1), "the other worker has it", entry.id)
    expect_stale(late, entries[2], Result(b"too late again"))
    other.publish(entry, Result(b"right"))
    expect(bytes(outcome_of(front.final(2)).body) == b"right", "the right answer, once")


def a_reclaimed_worker_claims_nothing_until_it_opens_again(stage: Stage) -> None:
    """Its old port is void; a new one on the same place works."""
    stage.open(workers=1)
    front, old = stage.front(), stage.worker(0)
    front.submit(RequestEntry(1, 0, b"x"))
    claim(old)
    stage.channel.reclaim("worker", 0)
    is_worker_died(front, 1)
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
    expect_stale(worker, entry, Result(b"second"))
    expect(bytes(outcome_of(front.final(1)).body) == b"first", "the first one counts")


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208  (a Path for each would be garbage to collect)


def _shared_files() -> set[str]:
    place = Path("/dev/shm")  # noqa: S108  (looked at, not written to)
    return {str(path) for path in place.iterdir()} if place.is_dir() else set()


@contextmanager
def expect_no_files() -> Iterator[None]:
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


def _use(stage: Stage) -> None:
    stage.open()
    front, echo = stage.front(), stage.echo()
    front.submit(*(RequestEntry(number, 0, bytes(100_000)) for number in range(1, 11)))
    front.finals(list(range(1, 11)))
    front.submit(RequestEntry(11, 0, b"left alone"))
    expect(echo.error is None, "no error", echo.error)
    stage.close()


def nothing_is_left_after_close(stage: Stage) -> None:
    """Descriptors, threads, child processes, files."""
    _use(stage)  # what a library starts once and keeps for the whole process is there after this
    resource_tracker.ensure_running()  # the standard library's own, likewise
    gc.collect()
    descriptors, threads = _descriptors(), threading.active_count()
    children = {child.pid for child in multiprocessing.active_children()}
    with expect_no_files():
        _use(stage)
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


def requests_leak_no_descriptors(stage: Stage) -> None:
    """A hundred requests, one after the other, need no more than ten did."""
    stage.open()
    front = stage.front()
    stage.echo()
    held = []
    for number in range(1, 101):
        front.submit(RequestEntry(number, 0, b"x"))
        front.final(number)
        if number in (10, 100):
            gc.collect()
            held.append(_descriptors())
    expect(held[1] <= held[0] + 2, "no more descriptors than after ten requests", held)


FENCE_CHECKS = (
    what_a_reclaimed_worker_publishes_is_refused,
    a_reclaimed_worker_claims_nothing_until_it_opens_again,
    publishing_twice_is_refused,
    nothing_is_left_after_close,
    restarts_leak_no_descriptors,
    requests_leak_no_descriptors,
)
