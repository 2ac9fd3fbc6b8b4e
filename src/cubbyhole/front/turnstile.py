# SPDX-License-Identifier: Apache-2.0
"""Limits that need to know whose a request is, or how many bytes are under way; and whose turn it is, with fair shares.

Flow:  lanes.py -> **LimitedLane.answer** -> Turnstile.enter -> Lane.answer -> Turnstile.leave
Owns:  Turnstile: the requests and bytes under way in this front, by key. Nothing of it leaves the front: each of several fronts
       admits its part of a limit, and shares out its own queue.
See:   scheduling/shares.py, docs/guide/priorities.md, docs/guide/failures.md

A server without these options has plain lanes, which know nothing of this.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cubbyhole.core.clock import NEVER_NS, now_ns
from cubbyhole.core.entries import Result
from cubbyhole.core.errors import CubbyholeError
from cubbyhole.front.intake import header
from cubbyhole.front.lane import Lane
from cubbyhole.scheduling.admission import BytesFull, KeyQueueFull
from cubbyhole.scheduling.policy import DEFAULT_CLASS
from cubbyhole.scheduling.shares import FairShares

if TYPE_CHECKING:
    from cubbyhole.core.entries import Buffer
    from cubbyhole.core.settings import ServerSettings
    from cubbyhole.front.desk import Desk
    from cubbyhole.front.exchange import Exchange, Waiter
    from cubbyhole.scheduling.shares import Turn

ADDRESS = "address"  # the client is known by its peer address
KEY_BYTES = 128  # of a key, that are looked at: a client must not fill our memory with one header
_TICKET = "cubbyhole.ticket"


class Ticket:
    """One request, from its head to the end of its answer."""

    __slots__ = ("endpoint", "key", "measured", "size_bytes", "turn", "waiter")

    def __init__(self, endpoint: int, key: bytes, size_bytes: int | None) -> None:
        self.endpoint = endpoint
        self.key = key
        self.measured = size_bytes is not None
        self.size_bytes = size_bytes or 0
        self.turn: Turn | None = None
        self.waiter: Waiter | None = None


class Turnstile:
    """What of this front's requests is under way."""

    def __init__(self, settings: ServerSettings) -> None:
        self._most_bytes = settings.max_queue_bytes
        self._most_per_key = settings.max_queue_per_key
        self._by_address = settings.client_key == ADDRESS
        self._key_header = settings.client_key.encode("latin-1")
        self._shares = [FairShares() for _ in settings.endpoints]
        self._under_way: dict[bytes, int] = {}
        self._bytes = 0

    def open(self, fronts: int) -> None:
        """Take this front's part of the limits."""
        if self._most_bytes is not None:
            self._most_bytes = -(-self._most_bytes // fronts)
        if self._most_per_key is not None:
            self._most_per_key = -(-self._most_per_key // fronts)

    def enter(self, scope: Any, endpoint: int, size_bytes: int | None) -> Ticket:
        """Let a request in.

        Args:
            scope: ASGI scope.
            endpoint: Its API's number.
            size_bytes: Of its body; None: not known yet, see `add`.

        Raises:
            KeyQueueFull: its client has too many under way: 429.
            BytesFull: all clients together have too many bytes under way: 503.
        """
        ticket = Ticket(endpoint, self._key(scope), None if size_bytes is None else 0)
        count = self._under_way.get(ticket.key, 0)
        if self._most_per_key is not None and count >= self._most_per_key:
            raise KeyQueueFull(
                f"{count} requests of this client are under way, as many as the server takes from each. "
                "Wait for an answer before you send the next one."
            )
        self.add(ticket, size_bytes or 0)
        self._under_way[ticket.key] = count + 1
        return ticket

    def add(self, ticket: Ticket, size_bytes: int) -> None:
        """So much of its body has come, or will come.

        Raises:
            BytesFull: there are too many.
        """
        # One body is let in however large: else what is over a front's part would never be.
        others = self._bytes - ticket.size_bytes
        if self._most_bytes is not None and others and self._bytes + size_bytes > self._most_bytes:
            raise BytesFull(
                f"{self._bytes:,} bytes of requests are under way in this front, and {size_bytes:,} more would be over its part of "
                f"max_queue_bytes ({self._most_bytes:,}). Add workers, or raise it."
            )
        ticket.size_bytes += size_bytes
        self._bytes += size_bytes

    def rank(self, ticket: Ticket, priority: int, received_ns: int) -> int:
        """Return the rank that gives each key its share."""
        ticket.turn = self._shares[ticket.endpoint].enter(ticket.key, priority, received_ns)
        return ticket.turn.rank

    def leave(self, ticket: Ticket) -> None:
        """The request is over."""
        self._bytes -= ticket.size_bytes
        left = self._under_way[ticket.key] - 1
        if left:
            self._under_way[ticket.key] = left
        else:
            del self._under_way[ticket.key]
        if ticket.turn is not None:
            served = ticket.waiter is not None and _was_served(ticket.waiter)
            self._shares[ticket.endpoint].leave(ticket.turn, served=served)

    def _key(self, scope: Any) -> bytes:
        key = None if self._by_address else header(scope["headers"], self._key_header)
        if key is not None:
            return key[:KEY_BYTES]
        client = scope.get("client")
        return b"@" + str(client[0]).encode() if client else b"@"


def _was_served(waiter: Waiter) -> bool:
    final = waiter.final
    if final is None:  # a stream, if it was not left before it began
        return waiter.deadline_ns == NEVER_NS
    return type(final.outcome) is Result or final.times_ns[2] > 0


class LimitedLane(Lane):
    """A lane behind the turnstile."""

    def __init__(self, desk: Desk, endpoint: int, **options: bool) -> None:
        super().__init__(desk, endpoint, **options)
        self._ordered = self._ordered or desk.settings.fair_shares

    async def answer(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request (ASGI)."""
        turnstile = self._desk.turnstile
        try:
            ticket = turnstile.enter(scope, self._endpoint, self._expected_bytes(scope))
        except CubbyholeError as error:
            return await self._turn_away(scope, receive, send, error, now_ns())
        scope[_TICKET] = ticket
        try:
            return await super().answer(scope, receive, send)
        finally:
            turnstile.leave(ticket)

    def _expected_bytes(self, scope: Any) -> int | None:
        """Return what will count; 0 for a body that will be refused for its size."""
        headers = scope["headers"]
        value = header(headers, b"content-length")
        if value is None:
            return None
        size_bytes = int(value) if value.isdigit() else 0
        return size_bytes if size_bytes <= self._limit_bytes else 0

    async def _intake(self, scope: Any, receive: Any, exchange: Exchange) -> Buffer:
        ticket = scope[_TICKET]
        if ticket.measured:
            return await super()._intake(scope, receive, exchange)

        async def counted() -> Any:
            message = await receive()
            self._desk.turnstile.add(ticket, len(message.get("body", b"")))
            return message

        return await super()._intake(scope, counted, exchange)

    def _rank(
        self, scope: Any, wishes: dict[bytes, bytes] | None, received_ns: int, deadline_ns: int
    ) -> int:
        if not self._desk.settings.fair_shares:
            return super()._rank(scope, wishes, received_ns, deadline_ns)
        # Without the deadline: a key that sends short ones would pass all others.
        priority = DEFAULT_CLASS
        if self._wishes.ordered:
            priority = self._wishes.priority(wishes, scope["headers"])
        return self._desk.turnstile.rank(scope[_TICKET], priority, received_ns)

    def _submit(
        self,
        exchange: Exchange,
        scope: Any,
        body: Buffer,
        meta: bytes,
        wishes: dict[bytes, bytes] | None,
        received_ns: int,
        receive: Any,
    ) -> Waiter:
        waiter = super()._submit(exchange, scope, body, meta, wishes, received_ns, receive)
        scope[_TICKET].waiter = waiter
        return waiter
