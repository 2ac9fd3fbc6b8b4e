# SPDX-License-Identifier: Apache-2.0
"""A desk whose entries are claimed elsewhere: it learns of a claim afterwards, and asks before it lets an entry expire.

Flow:  managed_front.py -> claimed, fail, due, news
Owns:  as `Desk`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cubbyhole.channels.desk import Desk
from cubbyhole.channels.held import CLAIMED, DONE, READY
from cubbyhole.core.clock import NEVER_NS

if TYPE_CHECKING:
    from cubbyhole.core.entries import Collected, Failure


class DistantDesk(Desk):
    """The entries of a front that are handed out by somebody else."""

    def due(self) -> list[int]:
        """Return, once each, the ids of entries whose deadline passed and that nobody is known to have claimed."""
        return self._due() if self._deadlines else []

    def news(self) -> list[Collected]:
        """Return what is new, without looking at deadlines."""
        return self._take_news()

    def next_deadline_ns(self) -> int:
        """Return the earliest deadline of an entry that is or was here."""
        try:
            return self._deadlines[0][0]
        except IndexError:  # not asked first: another thread may take the last one
            return NEVER_NS

    def claimed(self, request_id: int, owner: Any, owner_index: int, claimed_ns: int) -> None:
        """Learn that a worker has taken an entry by itself, where the desk does not give."""
        held = self._held.get(request_id)
        if held is None or held.state not in (READY, CLAIMED):
            return
        if held.state == READY:
            self._count_ready(held.entry.endpoint, -1)
        else:
            self._count_held(held.owner_index, -1)
        held.state = CLAIMED
        held.owner, held.owner_index, held.claimed_ns = owner, owner_index, claimed_ns
        self._count_held(owner_index, 1)

    def fail(self, request_id: int, failure: Failure) -> None:
        """Fail an entry, whoever holds it."""
        held = self._held.get(request_id)
        if held is None or held.state == DONE:
            return
        if held.state == READY:
            self._count_ready(held.entry.endpoint, -1)
        else:
            self._count_held(held.owner_index, -1)
        self._end(held, failure)
