# SPDX-License-Identifier: Apache-2.0
"""What a segment keeps of requests that are over: histograms, and the last of them one by one."""

from __future__ import annotations

import contextlib
import mmap
import random
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cubbyhole.channels.base import ChannelSettings
from cubbyhole.core.clock import now_ns
from cubbyhole.core.entries import Chunk, Failure, RequestEntry, Result

_native = pytest.importorskip("cubbyhole._native._history")

from cubbyhole.channels.shm import SharedMemoryChannel  # noqa: E402  (only with the core)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cubbyhole.core.history import FinishedEntry


@pytest.fixture
def channel() -> Iterator[SharedMemoryChannel]:
    made = SharedMemoryChannel.create(
        ChannelSettings(workers=2, endpoints=2, slots=64, arena_bytes=8 << 20)
    )
    yield made
    made.close()


@pytest.fixture
def ports(channel: SharedMemoryChannel) -> Iterator[tuple[Any, Any]]:
    front, worker = channel.front(0), channel.worker(0, 1)
    yield front, worker
    worker.close()
    front.close()


def one(channel: SharedMemoryChannel, request_id: int) -> FinishedEntry:
    (found,) = (entry for entry in channel.history() if entry.id == request_id)
    return found


def answer(
    ports: tuple[Any, Any], request_id: int, outcome: Any = None, body: bytes = b"x"
) -> None:
    front, worker = ports
    front.submit(RequestEntry(request_id, 1, body, received_ns=now_ns()))
    (entry,) = worker.claim(1, 1.0)
    worker.publish(entry, outcome if outcome is not None else Result(b"four"))
    front.collect()


def test_an_answered_request_is_kept_with_its_times_sizes_and_worker(
    channel: SharedMemoryChannel, ports: tuple[Any, Any]
) -> None:
    answer(ports, 7, body=b"12345")
    found = one(channel, 7)
    assert (found.outcome, found.status, found.failure) == ("answered", 200, "")
    assert (found.endpoint, found.front, found.worker, found.attempt) == (1, 0, 0, 0)
    assert (found.request_bytes, found.result_bytes) == (5, 4)
    received, ready, claimed, first_chunk, done = found.times_ns
    assert 0 < received <= ready <= claimed <= done <= found.over_ns <= now_ns()
    assert first_chunk == 0


def test_an_expired_request_is_kept_and_counted(
    channel: SharedMemoryChannel, ports: tuple[Any, Any]
) -> None:
    front, worker = ports
    front.submit(RequestEntry(3, 1, deadline_ns=now_ns()))
    assert worker.claim(1, 0.0) == []
    front.collect()
    found = one(channel, 3)
    assert (found.outcome, found.status, found.worker) == ("expired", 504, -1)
    counted = channel.histograms()[1]
    assert counted.outcomes["expired"] == 1
    assert (counted.queue.count, counted.execute.count, counted.request.count) == (1, 0, 1)


def test_a_request_taken_back_has_waited_but_was_not_answered(
    channel: SharedMemoryChannel, ports: tuple[Any, Any]
) -> None:
    front, _ = ports
    front.submit(RequestEntry(3, 1))
    assert front.cancel(3)
    assert (one(channel, 3).outcome, one(channel, 3).status) == ("cancelled", 499)
    counted = channel.histograms()[1]
    assert counted.outcomes["cancelled"] == 1
    assert (counted.queue.count, counted.request.count) == (1, 0)


def test_a_request_whose_front_gave_up_timed_out_at_its_deadline(
    channel: SharedMemoryChannel, ports: tuple[Any, Any]
) -> None:
    """Its front answered 504 at the deadline; how long the worker went on with it is another matter."""
    front, worker = ports
    deadline_ns = now_ns() + 20_000_000
    front.submit(RequestEntry(3, 1, deadline_ns=deadline_ns, received_ns=deadline_ns - 20_000_000))
    (entry,) = worker.claim(1, 1.0)
    while now_ns() < deadline_ns:
        pass
    assert not front.expire(3)
    worker.publish(entry, Result(b""))
    front.collect()
    assert (one(channel, 3).outcome, one(channel, 3).worker) == ("expired", 0)
    assert channel.histograms()[1].request.total == pytest.approx(0.02, abs=1e-6)


def test_a_request_of_a_dead_worker_is_kept_with_that_worker(
    channel: SharedMemoryChannel, ports: tuple[Any, Any]
) -> None:
    front, worker = ports
    front.submit(RequestEntry(3, 1))
    worker.claim(1, 1.0)
    channel.reclaim("worker", 0)
    front.collect()
    found = one(channel, 3)
    assert (found.outcome, found.status, found.failure) == ("worker_died", 503, "worker_died")
    assert found.worker == 0
    assert channel.histograms()[1].execute.count == 1


def test_a_retried_request_tells_its_attempt(
    channel: SharedMemoryChannel, ports: tuple[Any, Any]
) -> None:
    front, worker = ports
    other = channel.worker(1, 1)
    front.submit(RequestEntry(3, 1, retry_on_death=True))
    worker.claim(1, 1.0)
    channel.reclaim("worker", 0)
    (entry,) = other.claim(1, 1.0)
    other.publish(entry, Result(b""))
    front.collect()
    other.close()
    assert (one(channel, 3).attempt, one(channel, 3).worker) == (1, 1)
    assert channel.statistics().retried_total == 1


def test_a_stream_counts_its_first_chunk_and_all_its_bytes(
    channel: SharedMemoryChannel, ports: tuple[Any, Any]
) -> None:
    front, worker = ports
    front.submit(RequestEntry(3, 1))
    (entry,) = worker.claim(1, 1.0)
    worker.publish(entry, Chunk(b"abc"))
    worker.publish(entry, Chunk(b"de"))
    worker.publish(entry, Result(b"f"))
    front.collect()
    assert front.take_chunks(3).end is not None
    counted = channel.histograms()[1]
    assert counted.first_chunk.count == 1
    assert (one(channel, 3).chunks, one(channel, 3).result_bytes) == (2, 6)
    assert counted.result_bytes.total == 6


def test_successes_do_not_push_failures_out(
    channel: SharedMemoryChannel, ports: tuple[Any, Any]
) -> None:
    answer(ports, 1, Failure("predict_failed", 500))
    answer(ports, 2, Failure("http_exception", 404))  # the client's own doing
    for number in range(3, 4 + _native.RECORDS):
        answer(ports, number)
    kept = {entry.id: entry for entry in channel.history()}
    assert (kept[1].outcome, kept[1].status) == ("failed", 500)
    assert 2 not in kept
    assert len(kept) == _native.RECORDS + 1
    assert [entry.id for entry in channel.history()] == sorted(kept)


def test_what_a_dead_front_counted_stays_and_its_successor_adds(
    channel: SharedMemoryChannel,
) -> None:
    worker = channel.worker(0, 1)
    for number in (1, 2):
        front = channel.front(0)
        answer((front, worker), number)
        channel.reclaim("front", 0)  # from here on the former one counts as dead
    assert channel.histograms()[1].outcomes["answered"] == 2
    assert [entry.id for entry in channel.history()] == [1, 2]
    worker.close()


def test_batches_are_counted_for_their_endpoint(channel: SharedMemoryChannel) -> None:
    worker: Any = channel.worker(1, 1)
    worker.count_batch(5, 0.003)
    worker.count_batch(8, 0.0)
    other, counted = channel.histograms()
    assert (counted.batch_size.count, counted.batch_size.total) == (2, 13)
    assert counted.batch_size.cumulative((4, 8)) == [0, 2]
    assert counted.batch_wait.total == pytest.approx(0.003)
    assert other.batch_size.count == 0
    worker.close()


def test_each_value_falls_into_the_bucket_whose_bound_it_is_not_above(
    channel: SharedMemoryChannel,
) -> None:
    worker: Any = channel.worker(1, 0)
    bounds_ns = _native.TIME_BOUNDS_NS
    expected = [0] * (len(bounds_ns) + 1)
    generator = random.Random(1)
    values = [*bounds_ns, *(bound + 1000 for bound in bounds_ns), 0, 1, 10**13]
    values += [int(10 ** generator.uniform(0, 12)) for _ in range(2000)]
    for value in values:
        worker.count_batch(1, value / 1e9)
        as_counted = int(value / 1e9 * 1e9)
        expected[sum(bound < as_counted for bound in bounds_ns)] += 1
    assert list(channel.histograms()[0].batch_wait.counts) == expected
    worker.close()


def opened(channel: SharedMemoryChannel) -> mmap.mmap:
    """The segment's memory, as one of its processes could write to it."""
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            if link.stat().st_ino == channel.inode and "memfd" in str(link.readlink()):
                return mmap.mmap(int(link.name), 0)
    raise AssertionError("the segment has no descriptor")


def test_rubbish_in_the_memory_is_left_out_and_harms_nobody(
    channel: SharedMemoryChannel, ports: tuple[Any, Any]
) -> None:
    answer(ports, 1)
    generator = random.Random(2)
    with opened(channel) as memory:
        at = memory.find(
            struct.pack("<QQ", 1, 1 << 48 | 1 << 40)
        )  # the record: its id, endpoint and place
        assert at > 0
        room = range(at - 72, at + (96 << 10), 8)  # from the count of the ring to the tallies
        for _ in range(20):
            for word in room:
                memory[word : word + 8] = generator.randbytes(8)
            for entry in channel.history():
                assert entry.endpoint < 2
                assert entry.times_ns[0] <= entry.over_ns
            channel.histograms()
            answer(ports, 1)


@pytest.mark.parametrize(
    ("offset", "value"),
    [
        (8, 2 << 48),
        (8, 1 << 48 | 200 << 40),
        (8, 1 << 48 | 1 << 40 | 99 << 16),
        (56, 2**63),
        (72, 1),
    ],
    ids=[
        "no such endpoint",
        "no such place",
        "no such outcome",
        "received later",
        "claimed before",
    ],
)
def test_a_record_that_cannot_be_true_is_left_out(
    channel: SharedMemoryChannel, ports: tuple[Any, Any], offset: int, value: int
) -> None:
    answer(ports, 1)
    assert channel.history()
    with opened(channel) as memory:
        at = memory.find(struct.pack("<QQ", 1, 1 << 48 | 1 << 40))
        memory[at + offset : at + offset + 8] = struct.pack("<Q", value)
        assert channel.history() == []


def test_a_record_whose_front_died_half_way_is_skipped_until_the_ring_comes_round(
    channel: SharedMemoryChannel, ports: tuple[Any, Any]
) -> None:
    answer(ports, 1)
    with opened(channel) as memory:
        at = memory.find(struct.pack("<QQ", 1, 1 << 48 | 1 << 40)) - 8
        memory[at : at + 8] = struct.pack("<Q", 3)  # its sequence: odd while it is written
        assert channel.history() == []
        for number in range(2, 2 + _native.RECORDS):
            answer(ports, number)
        assert len(channel.history()) == _native.RECORDS
        assert struct.unpack("<Q", memory[at : at + 8]) == (4,)
