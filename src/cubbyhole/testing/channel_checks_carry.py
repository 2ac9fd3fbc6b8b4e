# SPDX-License-Identifier: Apache-2.0
"""Checks: entries arrive whole, once, in the right order, at the right place.

See:   testing/check_channel.py (the suite)
"""

from __future__ import annotations

import threading
import zlib
from random import Random
from typing import TYPE_CHECKING

from cubbyhole.core.clock import now_ns
from cubbyhole.core.entries import Failure, RequestEntry, Result
from cubbyhole.testing.channel_stage import (
    claim,
    expect,
    outcome_of,
    until,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from cubbyhole.core.entries import Buffer, ClaimedEntry
    from cubbyhole.testing.channel_stage import Stage


def a_result_comes_back_as_it_was_published(stage: Stage) -> None:
    """Body, status and meta arrive as published, with the times of each step; the counters of this channel moved."""
    channel = stage.open()
    front, worker = stage.front(), stage.worker()
    start = now_ns()
    front.submit(RequestEntry(7, 0, b"question", b"meta in", rank=3, received_ns=start))
    entry = claim(worker)[0]
    expect(entry.id == 7 and bytes(entry.body) == b"question", "the request arrives", entry.id)
    expect(entry.meta == b"meta in" and entry.attempt == 0, "meta and attempt", entry.meta)
    expect(not entry.cancelled, "nobody cancelled it")
    worker.publish(entry, Result(b"answer", 201, b"meta out"))
    item = front.final(7)
    result = outcome_of(item)
    expect(bytes(result.body) == b"answer", "the result's body", result.body)
    expect((result.status, result.meta) == (201, b"meta out"), "status and meta", result)
    received, ready, claimed, first, done = item.times_ns
    expect(start == received <= ready <= claimed <= done, "times in order", item.times_ns)
    expect(first == 0, "no stream, no first chunk", first)
    statistics = channel.statistics()
    expect(statistics.kind == channel.kind, "the statistics name the channel", statistics.kind)
    counters = (statistics.submitted_total, statistics.claimed_total, statistics.published_total)
    expect(counters == (1, 1, 1), "submitted, claimed, published are counted", counters)
    expect(statistics.request_bytes_total == 8, "request bytes", statistics.request_bytes_total)
    expect(statistics.result_bytes_total == 6, "result bytes", statistics.result_bytes_total)
    until(lambda: channel.statistics().slots_used == 0, "that the slot is free again")


def bodies_of_all_sizes_are_answered_exactly_once(stage: Stage) -> None:
    """0 B to 8 MiB, three workers, all at once, every byte checked."""
    stage.open(workers=3, slots=256, arena_bytes=256 << 20)
    front = stage.front()
    workers = [stage.echo(index) for index in range(3)]
    random = Random(4)  # noqa: S311  (the same bodies every time)
    sizes = [
        0,
        1,
        63,
        64,
        65,
        255,
        256,
        4095,
        4096,
        65_535,
        65_536,
        65_537,
        1 << 20,
        3 << 20,
        8 << 20,
    ]
    sizes += [random.randrange(600) for _ in range(200)]
    random.shuffle(sizes)
    sums = {}
    for number, size in enumerate(sizes, 1):
        body = random.randbytes(size)
        sums[number] = (size, zlib.crc32(body))
        front.submit(RequestEntry(number, 0, body))
    for number, item in front.finals(list(sums), 15.0).items():
        got = outcome_of(item).body
        expect(
            (memoryview(got).nbytes, zlib.crc32(got)) == sums[number], f"body {number} is unchanged"
        )
    claimed = [number for worker in workers for number in worker.claimed]
    expect(sorted(claimed) == sorted(sums), "each entry is claimed exactly once", len(claimed))


def two_workers_never_hold_the_same_entry(stage: Stage) -> None:
    """Many small entries, claimed in batches by three workers that compete for them."""
    channel = stage.open(workers=3, slots=512)
    front = stage.front()
    workers = [stage.echo(index, max_entries=7) for index in range(3)]
    ids = list(range(1, 401))
    front.submit(*(RequestEntry(number, 0, b"x") for number in ids))
    front.finals(ids)
    claimed = sorted(number for worker in workers for number in worker.claimed)
    expect(claimed == ids, "400 entries are claimed once each", len(claimed))
    expect(channel.statistics().claimed_total == 400, "400 claims are counted")


def entries_go_to_workers_of_their_endpoint_only(stage: Stage) -> None:
    """Two endpoints with a queue each."""
    stage.open(endpoints=2)
    front = stage.front()
    first, second = stage.worker(0, 0), stage.worker(1, 1)
    front.submit(RequestEntry(1, 1, b"for the second"))
    expect(first.claim(4, 0.1) == [], "the other endpoint's worker gets nothing")
    expect(claim(second)[0].id == 1, "its own worker gets it")
    front.submit(RequestEntry(2, 0, b"for the first"))
    expect(second.claim(4, 0.1) == [], "the other endpoint's worker gets nothing")
    expect(claim(first)[0].id == 2, "its own worker gets it")


def a_worker_is_given_no_more_than_it_asked_for(stage: Stage) -> None:
    """A slow worker must not sit on what another could do."""
    stage.open()
    front = stage.front()
    slow, quick = stage.worker(0), stage.worker(1)
    front.submit(*(RequestEntry(number, 0, b"x") for number in range(1, 11)))
    held = slow.claim(3, 1.0)
    expect(1 <= len(held) <= 3, "a claim of 3 gives 1 to 3 entries", len(held))
    others = claim(quick, 10 - len(held))
    ids = sorted(entry.id for entry in [*held, *others])
    expect(ids == list(range(1, 11)), "the other worker can take all the rest", ids)


def the_smallest_rank_is_claimed_first(stage: Stage) -> None:
    """And equal ranks in order of arrival. A channel that says it cannot must be seen to keep to arrival."""
    channel = stage.open()
    front, worker = stage.front(), stage.worker()
    ranks = [5, 2**40, 0, 5, 3, 1, 3, 2**63]
    front.submit(*(RequestEntry(number, 0, b"", rank=rank) for number, rank in enumerate(ranks, 1)))
    until(lambda: channel.statistics().ready == len(ranks), "that all are ready")
    order = [entry.id for entry in claim(worker, len(ranks))]
    by_rank = sorted(range(1, len(ranks) + 1), key=lambda number: ranks[number - 1])
    by_arrival = list(range(1, len(ranks) + 1))
    wanted = by_rank if channel.capabilities.ranks else by_arrival
    expect(order == wanted, f"ranks={channel.capabilities.ranks} means the order {wanted}", order)


def a_late_entry_of_small_rank_overtakes(stage: Stage) -> None:
    """Fifty wait with a large rank; one with a small rank comes last and is served next (where ranks are kept)."""
    channel = stage.open()
    front, worker = stage.front(), stage.worker()
    front.submit(*(RequestEntry(number, 0, b"", rank=1000) for number in range(1, 51)))
    until(lambda: channel.statistics().ready == 50, "that all are ready")
    expect(claim(worker)[0].id == 1, "the first of equals")
    front.submit(RequestEntry(99, 0, b"urgent", rank=1))
    until(lambda: channel.statistics().ready == 50, "that it is ready too")
    wanted = 99 if channel.capabilities.ranks else 2
    expect(claim(worker)[0].id == wanted, f"entry {wanted} is next")


def each_front_gets_its_own_results(stage: Stage) -> None:
    """Two fronts, two workers that serve both."""
    stage.open(fronts=2, workers=2)
    fronts = [stage.front(0), stage.front(1)]
    stage.echo(0)
    stage.echo(1)
    ids = [list(range(1, 61)), list(range(1001, 1061))]
    for number in range(60):
        for front, numbers in zip(fronts, ids, strict=True):
            front.submit(RequestEntry(numbers[number], 0, b"%d" % numbers[number]))
    for front, numbers in zip(fronts, ids, strict=True):
        for number, item in front.finals(numbers).items():
            body = bytes(outcome_of(item).body)
            expect(body == b"%d" % number, "the right body at the right front", body)


def a_failure_arrives_as_the_record_it_was(stage: Stage) -> None:
    """Code, status, nested detail, headers, message and traceback."""
    stage.open()
    front, worker = stage.front(), stage.worker()
    failure = Failure(
        "predict_failed",
        422,
        {"where": ["body", 3, None, True], "why": "ü \N{SNOWMAN}", "limit": 1.5},
        {"Retry-After": "7", "X-Reason": "test"},
        "ValueError: no",
        'Traceback (most recent call last):\n  File "model.py", line 3\n' * 200,
    )
    front.submit(RequestEntry(1, 0, b"x"))
    worker.publish(claim(worker)[0], failure)
    outcome = front.final(1).outcome
    expect(outcome == failure, "the same record", outcome)
    expect(stage.channel.statistics().failed_total == 1, "it is counted")


def publishing_works_from_other_threads_than_claiming(stage: Stage) -> None:
    """One thread claims, four publish."""
    stage.open(slots=256)
    front, worker = stage.front(), stage.worker()
    ids = list(range(1, 201))
    front.submit(*(RequestEntry(number, 0, b"%d" % number) for number in ids))
    claimed = claim(worker, len(ids))

    def answer(entries: list[ClaimedEntry]) -> None:
        for entry in entries:
            worker.publish(entry, Result(entry.body))

    threads = [threading.Thread(target=answer, args=(claimed[part::4],)) for part in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, item in front.finals(ids).items():
        expect(bytes(outcome_of(item).body) == b"%d" % number, f"the body of entry {number}")


# Reserved memory and copies -----------------------------------------------------------------------------------


def reserved_memory_travels_as_a_body(stage: Stage) -> None:
    """`reserve` at both ends: sizes, content, and room that is given back when it is dropped."""
    channel = stage.open()
    front, worker = stage.front(), stage.worker()
    size = 300_000
    question: Buffer = front.call(lambda port: port.reserve(size))
    expect(question.size_bytes == size, "the size asked for", question.size_bytes)
    memoryview(question).cast("B")[:] = bytes(range(250)) * (size // 250)
    front.submit(RequestEntry(1, 0, question))
    del question
    entry = claim(worker)[0]
    expect(zlib.crc32(entry.body) == zlib.crc32(bytes(range(250)) * (size // 250)), "the request")
    answer: Buffer = worker.reserve(8)
    memoryview(answer).cast("B")[:] = b"in place"
    worker.publish(entry, Result(answer))
    del answer, entry
    expect(bytes(outcome_of(front.final(1)).body) == b"in place", "the result")
    before = channel.statistics().arena_used_bytes
    dropped = front.call(lambda port: port.reserve(1 << 20))
    del dropped
    until(
        lambda: front.call(lambda _: channel.statistics().arena_used_bytes) <= before,
        "that a dropped reservation is free again",
    )


def copies_are_as_declared(stage: Stage) -> None:
    """`zero_copy`: at most one copy each way. `in_place`: none of what was reserved. Else the channel counts its copies."""
    channel = stage.open()
    front = stage.front()
    stage.echo()
    size = 1 << 20

    def copied(body: Callable[[], object]) -> int:
        before = channel.statistics().copied_bytes_total
        front.submit(RequestEntry(now_ns(), 0, body()))
        until(lambda: channel.statistics().slots_used == 0, "the answer")
        return channel.statistics().copied_bytes_total - before

    plain = copied(lambda: bytes(size))
    if channel.capabilities.zero_copy:
        expect(plain <= 2 * size, "one copy in at each end at most", plain)
    else:
        expect(plain > 2 * size, "without zero_copy each way costs more than one copy", plain)
    reserved = copied(lambda: front.call(lambda port: port.reserve(size)))
    if channel.capabilities.in_place:
        expect(reserved <= size, "what was reserved is not copied on its way in", reserved)
    else:
        expect(
            reserved >= 2 * size, "without in_place a reservation is copied like any body", reserved
        )


CARRY_CHECKS = (
    a_result_comes_back_as_it_was_published,
    bodies_of_all_sizes_are_answered_exactly_once,
    two_workers_never_hold_the_same_entry,
    entries_go_to_workers_of_their_endpoint_only,
    a_worker_is_given_no_more_than_it_asked_for,
    the_smallest_rank_is_claimed_first,
    a_late_entry_of_small_rank_overtakes,
    each_front_gets_its_own_results,
    a_failure_arrives_as_the_record_it_was,
    publishing_works_from_other_threads_than_claiming,
    reserved_memory_travels_as_a_body,
    copies_are_as_declared,
)
