# SPDX-License-Identifier: Apache-2.0
"""Fair shares between keys: whose turn it is when one of them floods the queue. Pure: keys and times in, a rank out.

Start-time fair queueing, in rounds. In each round every key that wants something has one turn:

    round of a request = max(the round being served now, the round after the key's last one)
    its rank           = when that round was opened, by whichever key came to it first

So a key that sends a thousand requests takes the next thousand rounds, one turn in each; the first request of another key has a turn
in the round that is served now, among that round's other keys and ahead of all the rest. Who used an idle server alone owes nothing
for it. A round is opened when somebody first needs it, so a rank is never later than the arrival but for a nanosecond for each
round before it: nothing is passed for ever, and ranks of several fronts can be compared.

A round counts as served when one of its requests was answered, which is later than when it was claimed. A key may so gain as many
turns as requests run at the same time, not more.

Flow:  front/turnstile.py -> **FairShares.enter** -> rank;  **leave** when the request is over
Owns:  the rounds and keys of one front and one endpoint. Each front keeps its own, and knows nothing of the others'.
See:   docs/guide/priorities.md, decision 0042
"""

from __future__ import annotations

from collections import OrderedDict, deque
from itertools import islice

from cubbyhole.scheduling.policy import STEP_NS

MOST_KEYS = 4096  # of one class; more than a front has requests under way by default, so that only debts are forgotten
LOOKS = 8  # for a key that owes nothing, before the oldest is forgotten whatever it owes


class Turn:
    """One request's turn, from `enter` until `leave`."""

    __slots__ = ("number", "owner", "priority", "rank")

    def __init__(self, owner: _Key, priority: int, number: int, rank: int) -> None:
        self.owner = owner
        self.priority = priority
        self.number = number
        self.rank = rank


class _Key:
    """Next round of a key, and its requests under way."""

    __slots__ = ("next_round", "under_way")

    def __init__(self, first_round: int) -> None:
        self.next_round = first_round
        self.under_way = 0


class _Class:
    """The rounds of one class of priority: shares are fair within a class."""

    __slots__ = ("keys", "opened", "served", "under_way")

    def __init__(self) -> None:
        self.keys: OrderedDict[bytes, _Key] = OrderedDict()  # the last used at the end
        self.served = 0  # the round being served
        self.opened: deque[int] = (
            deque()
        )  # when round `served`, and each one after it, was opened; ns
        self.under_way = 0

    def forget(self) -> None:
        """Nobody waits: all debts are off."""
        self.keys.clear()
        self.opened.clear()
        self.served = 0


class FairShares:
    """Turns of the keys of one endpoint in one front.

    Args:
        most_keys: Keys that are remembered in each class. Beyond, the one that was not used for longest is forgotten, and with it
            which rounds it has taken already.
    """

    def __init__(self, most_keys: int = MOST_KEYS) -> None:
        self._most_keys = most_keys
        self._classes: dict[int, _Class] = {}

    def enter(self, key: bytes, priority: int, received_ns: int) -> Turn:
        """Give a request its turn.

        Args:
            key: Whose it is.
            priority: Its class, 0 to 9. A better class goes first as it does without shares: by a second each.
            received_ns: When it came, monotonic ns.
        """
        one = self._classes.get(priority)
        if one is None:
            one = self._classes[priority] = _Class()
        owner = one.keys.get(key)
        if owner is None:
            if len(one.keys) >= self._most_keys:
                _forget_one(one)
            owner = one.keys[key] = _Key(one.served)
        else:
            one.keys.move_to_end(key)
        number = max(one.served, owner.next_round)
        owner.next_round = number + 1
        owner.under_way += 1
        one.under_way += 1
        opened = one.opened
        place = number - one.served
        if place == len(opened):  # later than the round before it, so that rounds stay in order
            opened.append(max(received_ns, opened[-1] + 1) if opened else received_ns)
        return Turn(owner, priority, number, opened[place] + priority * STEP_NS)

    def leave(self, turn: Turn, *, served: bool) -> None:
        """A request is over.

        Args:
            turn: From `enter`.
            served: A worker had it. Else it was refused, expired or taken back, and its round is not that far yet.
        """
        one = self._classes[turn.priority]
        turn.owner.under_way -= 1
        one.under_way -= 1
        if one.under_way == 0:
            one.forget()
        elif served and turn.number > one.served:
            for _ in range(min(turn.number - one.served, len(one.opened))):
                one.opened.popleft()
            one.served = turn.number

    def keys(self) -> int:
        """Count the keys that are remembered."""
        return sum(len(one.keys) for one in self._classes.values())


def _forget_one(one: _Class) -> None:
    owes_nothing = (
        key
        for key, owner in islice(one.keys.items(), LOOKS)
        if owner.under_way == 0 and owner.next_round <= one.served
    )
    del one.keys[next(owes_nothing, None) or next(iter(one.keys))]
