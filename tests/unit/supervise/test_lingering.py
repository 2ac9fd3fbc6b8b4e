# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from cubbyhole.core.roster import ProcessState, Roster
from cubbyhole.core.statistics import ChannelStatistics, EntrySnapshot
from cubbyhole.supervise.lingering import CancelledWatch, FrontWatch

if TYPE_CHECKING:
    from collections.abc import Iterator

SECOND = 1_000_000_000


class Shown:
    """A channel that shows these entries."""

    def __init__(self, *entries: EntrySnapshot) -> None:
        self.entries = list(entries)

    def snapshot(self) -> list[EntrySnapshot]:
        return self.entries

    def statistics(self) -> ChannelStatistics:
        return ChannelStatistics(kind="fake", claimed=len(self.entries))


def entry(number: int, owner: int, *, cancelled: bool = True, state: str = "CLAIMED") -> Any:
    return EntrySnapshot(
        id=number, endpoint=0, front=0, owner=owner, cancelled=cancelled, state=state
    )


def looks(watch: CancelledWatch, start_s: float, end_s: float) -> list[tuple[int, int]]:
    """Look twice a second; who was found, and with which entry."""
    found = []
    for half in range(int(start_s * 2), int(end_s * 2) + 1):
        found += [(one.index, one.entry_id) for one in watch.lingering(half * SECOND // 2)]
    return found


@pytest.mark.parametrize("state", ["CLAIMED", "STREAMING", "claimed"])
def test_who_holds_only_cancelled_entries_for_too_long_is_found(state: str) -> None:
    channel: Any = Shown(entry(7, 1, state=state), entry(8, 0, cancelled=False))
    watch = CancelledWatch(channel, 2.0)
    assert looks(watch, 100, 101.5) == []
    assert looks(watch, 102, 102) == [(1, 7)]


def test_a_neighbour_that_is_not_cancelled_protects() -> None:
    channel: Any = Shown(entry(7, 1), entry(8, 1, cancelled=False))
    assert looks(CancelledWatch(channel, 2.0), 100, 120) == []


def test_each_cancelled_entry_has_its_own_time() -> None:
    channel: Any = Shown(entry(7, 1))
    watch = CancelledWatch(channel, 2.0)
    assert looks(watch, 100, 101.5) == []
    channel.entries = [entry(9, 1)]  # the former was given up by its worker
    assert looks(watch, 102, 103.5) == []
    assert looks(watch, 104, 104) == [(1, 9)]


@pytest.mark.parametrize("state", ["READY", "DONE", "FAILED"])
def test_what_no_worker_has_is_nobodys_fault(state: str) -> None:
    channel: Any = Shown(entry(7, -1 if state == "READY" else 1, state=state))
    assert looks(CancelledWatch(channel, 1.0), 100, 120) == []


def test_without_a_limit_nobody_is_found() -> None:
    channel: Any = Shown(entry(7, 1))
    assert looks(CancelledWatch(channel, float("inf")), 100, 200) == []


def test_who_was_stopped_itself_does_not_judge_by_the_time_meanwhile() -> None:
    channel: Any = Shown(entry(7, 1))
    watch = CancelledWatch(channel, 2.0)
    looks(watch, 100, 100.5)
    assert looks(watch, 200, 201.5) == []
    assert looks(watch, 202, 202) == [(1, 7)]


@pytest.fixture
def roster() -> Iterator[Roster]:
    one = Roster.create(2, 1)
    for front in range(2):
        one.set_pid(front, 1)
        one.set_state(front, ProcessState.READY)
    yield one
    one.close()


def front_looks(
    watch: FrontWatch, roster: Roster, seconds: range, beating: tuple[int, ...]
) -> list[int]:
    found = []
    for second in seconds:
        for front in beating:
            roster.beat(front, second * SECOND)
        found += [one.index for one in watch.silent(second * SECOND)]
    return found


def test_a_front_that_does_not_beat_is_found(roster: Roster) -> None:
    watch = FrontWatch(roster, 10.0)
    assert front_looks(watch, roster, range(100, 120), (0, 1)) == []
    assert front_looks(watch, roster, range(120, 129), (0,)) == []
    assert front_looks(watch, roster, range(129, 130), (0,)) == [1]


@pytest.mark.parametrize("state", [ProcessState.STARTING, ProcessState.DRAINING])
def test_a_front_that_does_not_serve_is_not_judged(roster: Roster, state: ProcessState) -> None:
    roster.set_state(1, state)
    assert front_looks(FrontWatch(roster, 10.0), roster, range(100, 200), (0,)) == []


def test_a_front_whose_app_still_starts_is_not_judged(roster: Roster) -> None:
    """It said READY, then a user's lifespan blocks the loop: to end it would only begin that anew."""
    watch = FrontWatch(roster, 10.0)
    assert front_looks(watch, roster, range(100, 160), ()) == []
    roster.beat(0, 160 * SECOND)
    front_looks(watch, roster, range(160, 161), ())
    assert front_looks(watch, roster, range(161, 171), ()) == [0]


def test_a_front_that_never_gets_through_its_start_is_found_in_the_end(roster: Roster) -> None:
    watch = FrontWatch(roster, 10.0)
    assert front_looks(watch, roster, range(100, 399), (1,)) == []
    assert 0 in front_looks(watch, roster, range(399, 405), (1,))


def test_a_new_front_is_judged_by_its_own_beats(roster: Roster) -> None:
    watch = FrontWatch(roster, 10.0)
    front_looks(watch, roster, range(100, 105), (0, 1))
    front_looks(watch, roster, range(105, 114), (0,))
    roster.set_pid(1, 2)
    assert front_looks(watch, roster, range(114, 200), (0,)) == []


def test_a_front_that_was_stopped_while_nobody_watched_is_found_later(roster: Roster) -> None:
    watch = FrontWatch(roster, 10.0)
    front_looks(watch, roster, range(100, 110), (0, 1))
    assert front_looks(watch, roster, range(500, 510), (0,)) == []
    assert front_looks(watch, roster, range(510, 511), (0,)) == [1]


def test_fronts_are_not_judged_by_a_supervisor_that_was_stopped(roster: Roster) -> None:
    """Ctrl-Z and fg: all processes of the group stood still, and none of them hangs."""
    watch = FrontWatch(roster, 10.0)
    front_looks(watch, roster, range(100, 110), (0, 1))
    assert front_looks(watch, roster, range(500, 505), ()) == []
