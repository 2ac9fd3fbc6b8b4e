# SPDX-License-Identifier: Apache-2.0
"""The channel that tests of fronts and workers stand on keeps the contract itself."""

from __future__ import annotations

import select
import threading
from typing import TYPE_CHECKING

import pytest

from cubbyhole.channels.base import ChannelSettings
from cubbyhole.core.entries import Chunk, Failure, RequestEntry, Result
from cubbyhole.core.errors import ChannelClosed, ChannelFull, EntryTooLarge, StaleOwner
from cubbyhole.testing.memory_channel import MemoryChannel

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cubbyhole.testing.memory_ports import MemoryFrontPort, MemoryWorkerPort


class Clock:
    now = 1_000

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def channel(clock: Clock) -> MemoryChannel:
    settings = ChannelSettings(slots=4, workers=2, endpoints=2, arena_bytes=1000)
    return MemoryChannel(settings, clock, credit_bytes=10)


@pytest.fixture
def front(channel: MemoryChannel) -> Iterator[MemoryFrontPort]:
    port = channel.front(0)
    yield port
    port.close()


@pytest.fixture
def worker(channel: MemoryChannel) -> Iterator[MemoryWorkerPort]:
    port = channel.worker(0, 0)
    yield port
    port.close()


def readable(port: MemoryFrontPort | MemoryWorkerPort) -> bool:
    return bool(select.select([port], [], [], 0)[0])


def test_a_request_goes_out_and_its_result_comes_back(
    front: MemoryFrontPort, worker: MemoryWorkerPort
) -> None:
    front.submit(RequestEntry(7, 0, b"in"))
    (entry,) = worker.claim(5, 0)
    assert bytes(entry.body) == b"in"
    assert worker.publish(entry, Result(b"out", 201))
    assert readable(front)
    (collected,) = front.collect()
    assert collected.outcome == Result(b"out", 201)
    assert not readable(front)
    front.submit(RequestEntry(8, 0))  # the slot is free again


def test_smallest_rank_first_then_arrival(front: MemoryFrontPort, worker: MemoryWorkerPort) -> None:
    for identity, rank in ((1, 5), (2, 1), (3, 5), (4, 0)):
        front.submit(RequestEntry(identity, 0, rank=rank))
    assert [entry.id for entry in worker.claim(9, 0)] == [4, 2, 1, 3]


def test_workers_see_their_endpoint_only(
    channel: MemoryChannel, front: MemoryFrontPort, worker: MemoryWorkerPort
) -> None:
    other = channel.worker(1, 1)
    front.submit(RequestEntry(1, 1))
    assert worker.claim(1, 0) == []
    assert len(other.claim(1, 0)) == 1
    other.close()


def test_no_room_is_said_at_once(front: MemoryFrontPort) -> None:
    for identity in range(4):
        front.submit(RequestEntry(identity, 0))
    with pytest.raises(ChannelFull):
        front.submit(RequestEntry(9, 0))
    with pytest.raises(EntryTooLarge):
        front.submit(RequestEntry(9, 0, bytes(1001)))


def test_an_expired_entry_is_answered_and_never_claimed(
    clock: Clock, front: MemoryFrontPort, worker: MemoryWorkerPort
) -> None:
    front.submit(RequestEntry(1, 0, deadline_ns=2_000))
    clock.now = 2_000
    assert worker.claim(1, 0) == []
    (collected,) = front.collect()
    assert isinstance(collected.outcome, Failure)
    assert (collected.outcome.code, collected.outcome.status) == ("expired", 504)


def test_a_cancelled_entry_is_never_claimed(
    front: MemoryFrontPort, worker: MemoryWorkerPort
) -> None:
    front.submit(RequestEntry(1, 0))
    assert front.cancel(1)
    assert worker.claim(1, 0) == []


def test_the_worker_sees_a_late_cancel_and_the_front_hears_no_more(
    front: MemoryFrontPort, worker: MemoryWorkerPort
) -> None:
    front.submit(RequestEntry(1, 0))
    (entry,) = worker.claim(1, 0)
    flags = [entry.cancelled, front.cancel(1), entry.cancelled]
    assert flags == [False, False, True]
    assert worker.publish(entry, Result(b"late"))
    assert front.collect() == []


def test_a_stream_needs_credit_and_ends_with_its_result(
    front: MemoryFrontPort, worker: MemoryWorkerPort
) -> None:
    front.submit(RequestEntry(1, 0))
    (entry,) = worker.claim(1, 0)
    assert worker.publish(entry, Chunk(b"123456", 201, b"m"))
    assert not worker.publish(entry, Chunk(b"789012"))
    (collected,) = front.collect()
    assert collected.outcome is None
    taken = front.take_chunks(1)
    assert (taken.chunks, taken.head, taken.end) == ([b"123456"], (201, b"m"), None)
    assert readable(worker)  # credit has come
    assert worker.publish(entry, Chunk(b"789012"))
    assert worker.publish(entry, Result())
    assert [c.outcome for c in front.collect()] == [None]
    taken = front.take_chunks(1)
    assert (taken.chunks, taken.head, taken.end) == ([b"789012"], None, Result())


def test_a_writer_that_waits_for_credit_goes_on_when_the_reader_takes(
    front: MemoryFrontPort, worker: MemoryWorkerPort
) -> None:
    front.submit(RequestEntry(1, 0))
    (entry,) = worker.claim(1, 0)
    worker.publish(entry, Chunk(bytes(10)))
    done: list[bool] = []
    writer = threading.Thread(target=lambda: done.append(worker.publish(entry, Chunk(b"x"), 10)))
    writer.start()
    front.take_chunks(1)
    writer.join(5)
    assert done == [True]


def test_what_a_dead_worker_held_is_failed_or_offered_again(
    channel: MemoryChannel, front: MemoryFrontPort, worker: MemoryWorkerPort
) -> None:
    front.submit(RequestEntry(1, 0))
    front.submit(RequestEntry(2, 0, retry_on_death=True))
    held = worker.claim(2, 0)
    assert channel.reclaim("worker", 0) == 2
    with pytest.raises(StaleOwner):
        worker.publish(held[0], Result())
    (collected,) = front.collect()
    assert isinstance(collected.outcome, Failure)
    assert (collected.id, collected.outcome.code) == (1, "worker_died")
    again = channel.worker(0, 0)
    (entry,) = again.claim(1, 0)
    assert (entry.id, entry.attempt) == (2, 1)
    again.close()


def test_listen_rings_at_the_next_submit(front: MemoryFrontPort, worker: MemoryWorkerPort) -> None:
    assert worker.listen()
    front.submit(RequestEntry(1, 0))
    assert readable(worker)
    assert not worker.listen()
    worker.claim(1, 0)
    assert not readable(worker)


def test_a_closed_channel_ends_a_waiting_claim(
    channel: MemoryChannel, worker: MemoryWorkerPort
) -> None:
    caught: list[type] = []

    def wait() -> None:
        try:
            worker.claim(1, 10)
        except ChannelClosed as error:
            caught.append(type(error))

    thread = threading.Thread(target=wait)
    thread.start()
    channel.close()
    thread.join(5)
    assert caught == [ChannelClosed]


def test_snapshot_and_statistics_tell_what_is_there(
    channel: MemoryChannel, front: MemoryFrontPort, worker: MemoryWorkerPort
) -> None:
    front.submit(RequestEntry(1, 0, b"abc"))
    front.submit(RequestEntry(2, 0))
    worker.claim(1, 0)
    assert [(s.id, s.state, s.owner) for s in channel.snapshot()] == [
        (1, "CLAIMED", 0),
        (2, "READY", -1),
    ]
    statistics = channel.statistics()
    assert (statistics.kind, statistics.ready, statistics.claimed) == ("memory", 1, 1)
    assert statistics.request_bytes_total == 3
