# SPDX-License-Identifier: Apache-2.0
"""Fair shares: a queue in rank order, as the channel keeps it, between `FairShares` and a server that takes the smallest."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from cubbyhole.scheduling.policy import DEFAULT_CLASS, STEP_NS
from cubbyhole.scheduling.shares import FairShares

if TYPE_CHECKING:
    from cubbyhole.scheduling.shares import Turn

MS_NS = 1_000_000
SECOND_NS = 1_000_000_000


class Queue:
    """What waits, claimed by rank and then by arrival, `width` at a time."""

    def __init__(self, width: int = 1, most_keys: int = 4096) -> None:
        self.shares = FairShares(most_keys)
        self.now_ns = SECOND_NS
        self.waiting: list[tuple[int, int, str, Turn]] = []
        self.running: list[Turn] = []
        self.order: list[str] = []
        self._arrived = 0
        self._width = width

    def ask(self, key: str, priority: int = DEFAULT_CLASS) -> Turn:
        """A request comes, a millisecond after what was before."""
        self.now_ns += MS_NS
        self._arrived += 1
        turn = self.shares.enter(key.encode(), priority, self.now_ns)
        self.waiting.append((turn.rank, self._arrived, key, turn))
        return turn

    def serve(self, count: int = 1) -> list[str]:
        """Claim and answer so many; the keys in the order in which they were claimed."""
        before = len(self.order)
        for _ in range(count):
            self.now_ns += 5 * MS_NS
            while self.waiting and len(self.running) < self._width:
                first = min(self.waiting)
                self.waiting.remove(first)
                self.order.append(first[2])
                self.running.append(first[3])
            if self.running:
                self.shares.leave(self.running.pop(0), served=True)
        return self.order[before:]


def test_the_first_request_of_another_key_does_not_wait_for_a_flood() -> None:
    queue = Queue()
    for _ in range(100):
        queue.ask("flood")
    queue.serve(10)
    queue.ask("other")
    assert "other" in queue.serve(2)


def test_two_keys_that_always_want_more_have_turn_and_turn_about() -> None:
    queue = Queue()
    for _ in range(100):
        queue.ask("flood")
    for _ in range(10):
        queue.ask("other")
    assert Counter(queue.serve(20)) == {"flood": 10, "other": 10}


def test_a_key_that_had_an_idle_server_for_itself_owes_nothing() -> None:
    queue = Queue()
    for _ in range(50):
        queue.ask("alone")
    queue.serve(50)
    for key in ("late", "alone") * 5:
        queue.ask(key)
    assert queue.serve(10) == ["late", "alone"] * 5


def test_one_key_alone_is_first_come_first_served() -> None:
    queue = Queue()
    ranks = [queue.ask("only").rank for _ in range(20)]
    assert ranks == sorted(ranks)


def test_a_flood_that_was_refused_or_taken_back_moves_no_round() -> None:
    queue = Queue()
    for _ in range(5):
        queue.ask("patient")
    for turn in [queue.shares.enter(b"flood", DEFAULT_CLASS, queue.now_ns) for _ in range(100)]:
        queue.shares.leave(turn, served=False)
    queue.ask("other")
    assert "other" in queue.serve(2)


def test_shares_are_fair_within_a_class_and_a_better_class_is_still_first() -> None:
    queue = Queue()
    for _ in range(20):
        queue.ask("flood")
    queue.ask("other")
    queue.ask("flood", priority=0)
    queue.ask("other", priority=0)
    assert queue.serve(4) == ["flood", "other", "flood", "other"]


def test_a_rank_is_never_later_than_the_arrival_so_that_nothing_is_passed_for_ever() -> None:
    queue = Queue()
    for _ in range(200):
        asked_ns = queue.ask("flood").rank
        assert asked_ns - DEFAULT_CLASS * STEP_NS <= queue.now_ns
    rank = queue.ask("late").rank
    queue.serve(100)
    assert rank < queue.ask("flood").rank


def test_keys_are_forgotten_first_those_that_owe_nothing() -> None:
    queue = Queue(most_keys=3)
    for key in ("a", "b", "c"):
        queue.ask(key)
    for number in range(50):
        queue.ask(f"guest {number}")
        assert queue.shares.keys() <= 3
    assert len(queue.serve(53)) == 53
    assert queue.shares.keys() == 0


# A key asks so often, or so many are served. In bursts: where single requests come and go, hardly anybody ever waits behind another.
EVENTS = st.lists(
    st.one_of(st.tuples(st.sampled_from("abcd"), st.integers(1, 12)), st.integers(1, 4)),
    min_size=1,
    max_size=100,
)


@given(EVENTS, st.integers(1, 3))
def test_everybody_is_served_and_no_key_gets_ahead_of_one_that_waits(
    events: list[tuple[str, int] | int], width: int
) -> None:
    """Whenever a key has waited for a while, no other had more than its own turns meanwhile, and those that ran at once."""
    queue = Queue(width)
    asked = Counter[str]()
    since: dict[str, int] = {}  # key -> length of the order when it began to wait without a break
    for event in events:
        if isinstance(event, int):
            queue.serve(event)
        else:
            for _ in range(event[1]):
                queue.ask(event[0])
            asked[event[0]] += event[1]
        backlogged = {key for _, _, key, _ in queue.waiting}
        since = {key: since.get(key, len(queue.order)) for key in backlogged}
        for key, start in since.items():
            had = Counter(queue.order[start:])
            for other in "abcd":
                assert had[other] - had[key] <= 1 + 2 * width, (key, other, queue.order[start:])
    queue.serve(asked.total() + width)
    assert Counter(queue.order) == asked
    assert queue.shares.keys() == 0


@given(st.lists(st.sampled_from("abc"), max_size=50))
def test_the_requests_of_one_key_keep_their_order(keys: list[str]) -> None:
    queue = Queue()
    turns: dict[str, list[int]] = {}
    for number, key in enumerate(keys):
        turns.setdefault(key, []).append(queue.ask(key).rank)
        if number % 3 == 0:
            queue.serve()
    assert all(ranks == sorted(ranks) for ranks in turns.values())
