# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cubbyhole.channels.base import ChannelSettings
from cubbyhole.channels.desk import Desk
from cubbyhole.channels.ledger import Ledger
from cubbyhole.core.entries import RequestEntry

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    ledger = Ledger.create(ChannelSettings(fronts=2, workers=2, slots=8), shown=True)
    yield ledger
    ledger.close()


def test_each_life_has_its_own_name_and_only_the_dead_one_is_reclaimed(ledger: Ledger) -> None:
    cell = ledger.cell_at("worker", 1)
    first = ledger.begin_life("worker", 1)
    ledger.reclaim("worker", 1)
    second = ledger.begin_life("worker", 1)
    assert second > first
    assert ledger.is_reclaimed(cell, first)
    assert not ledger.is_reclaimed(cell, second)


def test_reclaim_counts_what_the_fronts_still_hold_and_what_they_lost_already(
    ledger: Ledger,
) -> None:
    ledger.begin_life("worker", 0)
    desks = []
    for front in (0, 1):
        ledger.begin_life("front", front)
        desks.append(Desk(front, ledger))
        desks[front].admit(RequestEntry(front + 1, 0))
        desks[front].give(0, 1, "worker 0", 0)
    assert desks[0].lost("worker 0", tell=ledger.lost_at(0, 0)) == 1  # it saw the connection end
    assert ledger.reclaim("worker", 0) == 2
    assert desks[1].lost("worker 0") == 1
    assert ledger.reclaim("worker", 0) == 0


def test_reclaiming_a_front_frees_its_places_once(ledger: Ledger) -> None:
    ledger.begin_life("front", 1)
    desk = Desk(1, ledger)
    for number in range(3):
        desk.admit(RequestEntry(number + 1, 0))
    assert ledger.reclaim("front", 1) == 3
    assert ledger.reclaim("front", 1) == 0
    assert ledger.snapshot() == []
    assert ledger.words[ledger.hint_at(1, 0)] == 0


def test_a_place_that_is_not_there_is_refused(ledger: Ledger) -> None:
    with pytest.raises(IndexError, match="worker 2: this channel has places for 2, 0 to 1"):
        ledger.cell_at("worker", 2)
