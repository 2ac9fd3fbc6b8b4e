# SPDX-License-Identifier: Apache-2.0
"""Checks: streams and their credit, cancelling, deadlines, and what can be seen from outside.

See:   testing/check_channel.py (the suite)
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from cubbyhole.core.clock import now_ns
from cubbyhole.core.entries import Chunk, Failure, RequestEntry, Result
from cubbyhole.testing.channel_stage import claim, expect, is_readable, outcome_of, until

if TYPE_CHECKING:
    from cubbyhole.channels.base import WorkerPort
    from cubbyhole.core.entries import ClaimedEntry
    from cubbyhole.testing.channel_stage import LiveFront, Stage

_CHUNK_BYTES = 4096
_MANY_CHUNKS = 4000  # 16 MiB: more than any channel should let a stream run ahead


def _publish_all(worker: WorkerPort, entry: ClaimedEntry, chunks: list[bytes]) -> None:
    for chunk in chunks:
        while not worker.publish(entry, Chunk(chunk), 1.0):
            pass


def _fill(worker: WorkerPort, entry: ClaimedEntry) -> int:
    sent = 0
    while sent < _MANY_CHUNKS and worker.publish(entry, Chunk(bytes(_CHUNK_BYTES))):
        sent += 1
    return sent


def a_stream_arrives_in_order_and_ends_clean(stage: Stage) -> None:
    """Its head comes once, with the first chunk; its end brings the last bytes."""
    channel = stage.open()
    front, worker = stage.front(), stage.worker()
    front.submit(RequestEntry(1, 0, b"x"))
    entry = claim(worker)[0]
    expect(worker.publish(entry, Chunk(b"first", 206, b"head")), "the first chunk finds credit")
    chunks = [b"%d," % number for number in range(300)]
    _publish_all(worker, entry, chunks)
    worker.publish(entry, Result(b"last"))
    got, end = front.stream_end(1)
    expect(b"".join(got) == b"first" + b"".join(chunks), "every chunk, in order", len(got))
    expect(type(end) is Result and bytes(end.body) == b"last", "the end with the last bytes", end)
    heads = [taken.head for taken in front.streams[1] if taken.head is not None]
    expect(heads == [(206, b"head")], "the head once", heads)
    expect(channel.statistics().chunks_total == 301, "the chunks are counted")
    until(lambda: channel.statistics().slots_used == 0, "that the slot is free again")


def a_stream_may_end_in_a_failure(stage: Stage) -> None:
    """The chunks before it still arrive."""
    stage.open()
    front, worker = stage.front(), stage.worker()
    front.submit(RequestEntry(1, 0, b"x"))
    entry = claim(worker)[0]
    _publish_all(worker, entry, [b"one", b"two"])
    worker.publish(entry, Failure("predict_failed", 500, "no", {}, "ValueError"))
    got, end = front.stream_end(1)
    expect(b"".join(got) == b"onetwo", "what came before", got)
    expect(type(end) is Failure and end.code == "predict_failed", "the failure", end)


def several_streams_do_not_mix(stage: Stage) -> None:
    """Four at a time from each of two workers."""
    stage.open()
    front = stage.front()
    ids = list(range(1, 9))
    front.submit(*(RequestEntry(number, 0, b"x") for number in ids))

    def stream(worker: WorkerPort) -> None:
        entries = claim(worker, 4)
        for step in range(60):
            for entry in entries:
                _publish_all(worker, entry, [b"%d:%d," % (entry.id, step)])
        for entry in entries:
            worker.publish(entry, Result())

    threads = [threading.Thread(target=stream, args=(stage.worker(n),)) for n in (0, 1)]
    for thread in threads:
        thread.start()
    for number in ids:
        got, _end = front.stream_end(number)
        wanted = b"".join(b"%d:%d," % (number, step) for step in range(60))
        expect(b"".join(got) == wanted, f"stream {number} is its own", got[:3])
    for thread in threads:
        thread.join()


def a_writer_without_a_reader_stops(stage: Stage) -> None:
    """Where `credit` is declared. Else it must be seen not to stop."""
    channel = stage.open()
    front, worker = stage.front(), stage.worker()
    front.reading = False
    front.submit(RequestEntry(1, 0, b"x"))
    entry = claim(worker)[0]
    sent = _fill(worker, entry)
    if not channel.capabilities.credit:
        expect(sent == _MANY_CHUNKS, "credit=False means that nothing stops the writer", sent)
        return
    expect(1 <= sent < _MANY_CHUNKS, f"the writer stops before {_MANY_CHUNKS} chunks", sent)
    expect(not worker.publish(entry, Chunk(bytes(_CHUNK_BYTES)), 0.05), "and waiting does not help")
    # An unrelated entry is not held up by it.
    front.submit(RequestEntry(2, 0, b"y"))
    worker.publish(claim(worker)[0], Result(b"passes"))
    expect(bytes(outcome_of(front.final(2)).body) == b"passes", "an unrelated entry passes")
    taken: list[bytes] = []

    def take() -> bool:
        taken.extend(front.call(lambda port: port.take_chunks(1)).chunks)
        return len(taken) >= sent

    until(take, "that all chunks can be taken")
    expect(len(taken) == sent, "exactly those that were accepted", len(taken))
    expect(worker.publish(entry, Chunk(b"again"), 5.0), "then there is credit again")


def a_writer_that_waits_for_credit_is_woken(stage: Stage) -> None:
    """It sleeps in `publish`, or on its descriptor, until the reader takes."""
    channel = stage.open()
    if not channel.capabilities.credit:
        return
    front, worker = stage.front(), stage.worker()
    front.reading = False
    front.submit(RequestEntry(1, 0, b"x"))
    entry = claim(worker)[0]
    _fill(worker, entry)
    accepted: list[bool] = []
    thread = threading.Thread(
        target=lambda: accepted.append(worker.publish(entry, Chunk(bytes(_CHUNK_BYTES)), 30.0))
    )
    thread.start()

    def take() -> bool:
        front.call(lambda port: port.take_chunks(1))
        return False

    until(lambda: take() or accepted, "that the waiting publish goes on")
    expect(accepted == [True], "and succeeds", accepted)
    thread.join()
    _fill(worker, entry)
    worker.listen()
    until(lambda: take() or is_readable(worker.fileno()), "that the descriptor tells of credit")
    until(lambda: take() or worker.publish(entry, Chunk(b"y")), "credit")


# Cancelling ---------------------------------------------------------------------------------------------------


def a_cancelled_unclaimed_entry_is_never_seen(stage: Stage) -> None:
    """And its slot is free at once. A channel that cannot take it back must say so, and show the worker the flag."""
    channel = stage.open()
    front, worker = stage.front(), stage.worker()
    front.submit(*(RequestEntry(number, 0, b"x") for number in (1, 2, 3)))
    taken_back = front.cancel(2)
    if not channel.capabilities.cancels_queued:
        expect(not taken_back, "cancels_queued=False means that cancel() says no")
        entries = {entry.id: entry for entry in claim(worker, 3)}
        expect(entries[2].cancelled, "the worker sees that nobody waits")
        return
    expect(taken_back, "cancel() of an unclaimed entry says that no worker will see it")
    ids = [entry.id for entry in claim(worker, 2)]
    expect(ids == [1, 3], "the others", ids)
    expect(worker.claim(4, 0.1) == [], "never the cancelled one")
    used = channel.statistics().slots_used
    expect(used == 2, "its slot is free again", used)
    expect(channel.statistics().cancelled_total == 1, "it is counted")
    expect(not front.seen(2), "its front hears nothing of it")


def a_cancelled_claimed_entry_tells_its_worker(stage: Stage) -> None:
    """What is published nevertheless is dropped, and the slot is freed."""
    channel = stage.open()
    front, worker = stage.front(), stage.worker()
    front.submit(RequestEntry(1, 0, b"x"), RequestEntry(2, 0, b"y"))
    entries = {entry.id: entry for entry in claim(worker, 2)}
    expect(not front.cancel(1), "a worker has it already")
    until(lambda: entries[1].cancelled, "that the worker sees the flag")
    expect(not entries[2].cancelled, "only the one that was cancelled")
    worker.publish(entries[1], Result(b"for nobody"))
    worker.publish(entries[2], Result(b"for somebody"))
    front.final(2)
    until(lambda: channel.statistics().slots_used == 0, "that both slots are free")
    front.submit(RequestEntry(3, 0, b"z"))
    expect(not claim(worker)[0].cancelled, "the next entry in that slot is not cancelled")


def a_cancelled_stream_ends(stage: Stage) -> None:
    """Its writer is not left waiting for credit that nobody gives, and the slot is freed."""
    channel = stage.open()
    front, worker = stage.front(), stage.worker()
    front.reading = False
    front.submit(RequestEntry(1, 0, b"x"))
    entry = claim(worker)[0]
    for _ in range(200):
        worker.publish(entry, Chunk(bytes(_CHUNK_BYTES)))
    front.cancel(1)
    until(lambda: entry.cancelled, "that the worker sees the flag")
    worker.publish(entry, Failure("cancelled", 499, "Request cancelled"))
    until(lambda: channel.statistics().slots_used == 0, "that the slot is free")


def cancelling_what_is_over_does_no_harm(stage: Stage) -> None:
    """An entry that was answered, one that never was, and one that is cancelled twice."""
    stage.open()
    front, worker = stage.front(), stage.worker()
    front.submit(RequestEntry(1, 0, b"x"))
    worker.publish(claim(worker)[0], Result(b"done"))
    front.final(1)
    front.cancel(1)
    front.cancel(12345)
    front.submit(RequestEntry(2, 0, b"y"))
    front.cancel(2)
    front.cancel(2)
    front.submit(RequestEntry(3, 0, b"z"))
    entry = (
        next(entry for entry in claim(worker, 1) if not entry.cancelled)
        if (stage.channel.capabilities.cancels_queued)
        else claim(worker, 2)[1]
    )
    worker.publish(entry, Result(b"served"))
    expect(bytes(outcome_of(front.final(3)).body) == b"served", "the next one is served")


# Deadlines ----------------------------------------------------------------------------------------------------


def an_entry_past_its_deadline_is_never_claimed(stage: Stage) -> None:
    """Its front collects Failure("expired", 504)."""
    channel = stage.open()
    front, worker = stage.front(), stage.worker()
    front.submit(
        RequestEntry(1, 0, b"too late", deadline_ns=now_ns() - 1),
        RequestEntry(2, 0, b"in time", deadline_ns=now_ns() + 3600 * 10**9),
    )
    expect(claim(worker)[0].id == 2, "only the one in time")
    expect(worker.claim(4, 0.1) == [], "never the other")
    outcome = front.call(lambda _: None) or front.final(1).outcome
    expect(
        type(outcome) is Failure and (outcome.code, outcome.status) == ("expired", 504),
        "the front collects that it expired",
        outcome,
    )
    expect(channel.statistics().failed_total == 1, "it is counted as failed")


def a_deadline_concerns_the_start_only(stage: Stage) -> None:
    """What was claimed in time may be published later."""
    stage.open()
    front, worker = stage.front(), stage.worker()
    deadline_ns = now_ns() + 300_000_000
    front.submit(RequestEntry(1, 0, b"x", deadline_ns=deadline_ns))
    entry = claim(worker)[0]
    expect(entry.deadline_ns == deadline_ns, "the worker knows the deadline", entry.deadline_ns)
    until(lambda: now_ns() > deadline_ns + 10_000_000, "the deadline")
    worker.publish(entry, Result(b"late but good"))
    expect(bytes(outcome_of(front.final(1)).body) == b"late but good", "it counts")


# Seen from outside --------------------------------------------------------------------------------------------


def entries_are_seen_as_declared(stage: Stage) -> None:
    """`visible`: id, state, owner, sizes and times of each entry in `snapshot()`. Else nothing of an entry may be claimed."""
    channel = stage.open()
    front, worker = stage.front(), stage.worker()
    front.submit(*(RequestEntry(n, 0, b"12345", rank=n, received_ns=now_ns()) for n in (1, 2)))
    entry = claim(worker)[0]
    seen = {entry.id: entry for entry in channel.snapshot()}
    if not channel.capabilities.visible:
        expect(not seen, "visible=False means that nothing is seen", seen)
        return
    expect(sorted(seen) == [1, 2], "both entries", seen)
    expect((seen[1].state, seen[1].owner) == ("CLAIMED", 0), "state and owner", seen[1])
    expect((seen[2].state, seen[2].owner) == ("READY", -1), "state and owner", seen[2])
    expect(seen[1].request_bytes == 5 and seen[2].rank == 2, "sizes and ranks", seen)
    expect(0 < seen[1].received_ns <= seen[1].ready_ns <= seen[1].claimed_ns, "times", seen[1])
    worker.publish(entry, Chunk(b"abc"))
    until(
        lambda: [e.state for e in channel.snapshot() if e.id == 1] == ["STREAMING"],
        "that the stream is seen",
    )
    worker.publish(entry, Result(b""))
    front.stream_end(1)
    until(lambda: [e.id for e in channel.snapshot()] == [2], "that the answered one is gone")


def statistics_say_what_is_there_now(stage: Stage) -> None:
    """Slots used, ready and claimed go up and down with the entries."""
    channel = stage.open(slots=64)
    front, worker = stage.front(), stage.worker()

    def now() -> tuple[int, int, int]:
        statistics = channel.statistics()
        return statistics.slots_used, statistics.ready, statistics.claimed

    expect(channel.statistics().slots == 64, "slots", channel.statistics().slots)
    front.submit(*(RequestEntry(number, 0, b"x") for number in (1, 2, 3)))
    until(lambda: now() == (3, 3, 0), "3 used, 3 ready, 0 claimed")
    entries = claim(worker, 2)
    until(lambda: now() == (3, 1, 2), "3 used, 1 ready, 2 claimed")
    _finish(worker, entries, front)
    until(lambda: now() == (1, 1, 0), "1 used, 1 ready, 0 claimed")


def what_is_over_is_counted_as_declared(stage: Stage) -> None:
    """`history`: each request that is over is in the histograms of its endpoint, once. Else there are none."""
    channel = stage.open(endpoints=2, slots=64)
    front, worker = stage.front(), stage.worker(endpoint=1)
    front.submit(*(RequestEntry(number, 1, b"12345") for number in (1, 2, 3)))
    _finish(worker, claim(worker, 3), front)
    if not channel.capabilities.history:
        expect(not channel.histograms(), "history=False means no histograms", channel.histograms())
        return
    expect(len(channel.histograms()) == 2, "history=True means histograms of each endpoint")
    until(lambda: channel.histograms()[1].request.count == 3, "that all three are counted")
    other, found = channel.histograms()
    expect(other.request.count == 0, "nothing at the other endpoint", other)
    expect(found.outcomes["answered"] == 3, "how they ended", found.outcomes)
    counts = [one.count for one in (found.queue, found.execute, found.result_bytes)]
    expect(counts == [3, 3, 3], "each in each phase", counts)
    expect((found.request_bytes.count, found.request_bytes.total) == (3, 15), "sizes", found)


def _finish(worker: WorkerPort, entries: list[ClaimedEntry], front: LiveFront) -> None:
    for entry in entries:
        worker.publish(entry, Result(b""))
    front.finals([entry.id for entry in entries])


LIFE_CHECKS = (
    a_stream_arrives_in_order_and_ends_clean,
    a_stream_may_end_in_a_failure,
    several_streams_do_not_mix,
    a_writer_without_a_reader_stops,
    a_writer_that_waits_for_credit_is_woken,
    a_cancelled_unclaimed_entry_is_never_seen,
    a_cancelled_claimed_entry_tells_its_worker,
    a_cancelled_stream_ends,
    cancelling_what_is_over_does_no_harm,
    an_entry_past_its_deadline_is_never_claimed,
    a_deadline_concerns_the_start_only,
    entries_are_seen_as_declared,
    statistics_say_what_is_there_now,
    what_is_over_is_counted_as_declared,
)
