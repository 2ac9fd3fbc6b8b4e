# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cubbyhole.channels.base import ChannelSettings
from cubbyhole.channels.desk import Desk
from cubbyhole.channels.ledger import Ledger
from cubbyhole.core.entries import Failure, RequestEntry, Result
from cubbyhole.core.errors import ChannelFull, EntryTooLarge

if TYPE_CHECKING:
    from collections.abc import Iterator

FIRST, SECOND = object(), object()


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    settings = ChannelSettings(fronts=1, workers=2, endpoints=2, slots=4, arena_bytes=1000)
    ledger = Ledger.create(settings, shown=True)
    ledger.begin_life("front", 0)
    yield ledger
    ledger.close()


@pytest.fixture
def desk(ledger: Ledger) -> Desk:
    return Desk(0, ledger)


def entry(number: int, rank: int = 0, endpoint: int = 0, body: bytes = b"x") -> RequestEntry:
    return RequestEntry(number, endpoint, body, rank=rank)


def test_equal_ranks_keep_their_order_also_when_offered_again(desk: Desk) -> None:
    for number in (1, 2, 3):
        again = entry(number)
        again.retry_on_death = True
        desk.admit(again)
    assert [held.entry.id for held in desk.give(0, 2, FIRST, 0)] == [1, 2]
    assert desk.lost(FIRST) == 2
    given = desk.give(0, 3, SECOND, 1)
    assert [(held.entry.id, held.attempt) for held in given] == [(1, 1), (2, 1), (3, 0)]


def test_a_result_of_somebody_else_does_not_count(desk: Desk) -> None:
    desk.admit(entry(1))
    desk.give(0, 1, FIRST, 0)
    assert not desk.finish(SECOND, 1, Result(b"forged"), 1)
    assert desk.collect() == []
    assert desk.finish(FIRST, 1, Result(b"right"), 1)
    assert not desk.finish(FIRST, 1, Result(b"twice"), 1)
    assert [item.outcome for item in desk.collect()] == [Result(b"right")]


def test_a_cancelled_entry_is_skipped_and_its_slot_is_free(desk: Desk, ledger: Ledger) -> None:
    for number in range(1, 5):
        desk.admit(entry(number))
    with pytest.raises(ChannelFull, match="4 of 4"):
        desk.admit(entry(5))
    assert desk.cancel(1)
    desk.admit(entry(5))
    assert [held.entry.id for held in desk.give(0, 9, FIRST, 0)] == [2, 3, 4, 5]
    assert ledger.statistics("test").cancelled_total == 1


def test_what_is_in_flight_is_bounded_in_bytes(desk: Desk) -> None:
    with pytest.raises(EntryTooLarge, match="1,001"):
        desk.admit(entry(1, body=bytes(1001)))
    desk.admit(entry(1, body=bytes(900)))
    with pytest.raises(ChannelFull, match="900 of 1,000"):
        desk.admit(entry(2, body=bytes(200)))
    desk.cancel(1)
    desk.admit(entry(2, body=bytes(200)))


def test_many_cancelled_entries_leave_no_garbage_behind(desk: Desk) -> None:
    for number in range(1, 5001):
        queued = entry(number)
        queued.deadline_ns = 2**62
        desk.admit(queued)
        desk.cancel(number)
    assert len(desk._heaps[0]) < 2000
    assert len(desk._deadlines) < 2000


def test_a_stream_cannot_be_offered_again(desk: Desk) -> None:
    streaming = entry(1)
    streaming.retry_on_death = True
    desk.admit(streaming)
    desk.give(0, 1, FIRST, 0)
    desk.chunk(FIRST, 1, b"part", (200, b""))
    desk.lost(FIRST)
    taken, owed = desk.take_chunks(1)
    assert taken.chunks == [b"part"]
    assert isinstance(taken.end, Failure)
    assert taken.end.code == "worker_died"
    assert owed is None


def test_the_ledger_shows_what_the_desk_does(desk: Desk, ledger: Ledger) -> None:
    desk.admit(entry(1, rank=5))
    desk.give(0, 1, FIRST, 1)
    desk.admit(entry(2, endpoint=1))
    seen = {item.id: item for item in ledger.snapshot()}
    assert (seen[1].state, seen[1].owner, seen[1].rank) == ("CLAIMED", 1, 5)
    assert (seen[2].state, seen[2].owner, seen[2].endpoint) == ("READY", -1, 1)
    assert ledger.words[ledger.hint_at(0, 0)] == 0
    assert ledger.words[ledger.hint_at(0, 1)] == 1
    desk.finish(FIRST, 1, Failure("predict_failed"), 9)
    assert {item.id: item.failure for item in ledger.snapshot()} == {1: "predict_failed", 2: ""}
    desk.clear()
    assert ledger.snapshot() == []
    statistics = ledger.statistics("test")
    assert (statistics.slots_used, statistics.ready, statistics.claimed) == (0, 0, 0)
