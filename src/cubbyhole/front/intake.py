# SPDX-License-Identifier: Apache-2.0
"""HTTP request -> what a `RequestEntry` needs: its body, read within the limit. Its meta is read by meta.py.

The front moves bytes: nothing here looks into a body.

Flow:  lane.py -> **read_body** -> RequestEntry -> exchange.py
Owns:  nothing.
See:   docs/design/request-path.md
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any

from cubbyhole.core.errors import EntryTooLarge, PayloadTooLarge
from cubbyhole.front.straight import straight_from

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from cubbyhole.core.entries import Buffer
    from cubbyhole.front.pace import Pace

# Below it a body comes in one message or two, and joining bytes is cheaper than a reservation. (IPC.md: page-sized
# copies are not what costs.)
RESERVE_FROM_BYTES = 32 * 1024

ID_BYTES = 200  # of a client's X-Request-ID; it goes into logs, tables and headers
_is_clean = re.compile(rb"[!-~]{1,%d}" % ID_BYTES).fullmatch


class ClientLeft(Exception):
    """The client went away before its request was complete; there is nobody to answer."""


def header(headers: list[tuple[bytes, bytes]], name: bytes) -> bytes | None:
    """Return the first value of a header, whose name is in lower case."""
    for key, value in headers:
        if key == name:
            return value
    return None


def clean_id(value: bytes) -> bytes:
    """Return a client's id as it may be shown anywhere: printable ASCII without spaces, at most `ID_BYTES`. Other bytes are left out."""
    if _is_clean(value):
        return value
    return bytes(byte for byte in value if 0x21 <= byte <= 0x7E)[:ID_BYTES]


def client_id(headers: list[tuple[bytes, bytes]]) -> bytes:
    """Return the client's X-Request-ID, cleaned; empty: it sent none that can be shown."""
    value = header(headers, b"x-request-id")
    return b"" if value is None else clean_id(value)


class BodyTooLarge(PayloadTooLarge):
    """The body is over the limit.

    Attributes:
        unread: Whether the client may still be sending it.
    """

    def __init__(self, size_bytes: int, limit_bytes: int, *, unread: bool) -> None:
        super().__init__(
            f"Request body has at least {size_bytes:,} bytes, the limit is {limit_bytes:,}. "
            "Raise LitServer(max_payload_size=...) or arena_bytes=, or send less."
        )
        self.unread = unread


def declared_size(scope: Any, limit_bytes: int) -> int | None:
    """Return what Content-Length says, None without one that can be read.

    Raises:
        BodyTooLarge: it is over the limit, so that nothing need be read.
    """
    value = header(scope["headers"], b"content-length")
    if value is None or not value.isdigit():
        return None
    size_bytes = int(value)
    if size_bytes > limit_bytes:
        raise BodyTooLarge(size_bytes, limit_bytes, unread=True)
    return size_bytes


async def read_body(
    first: Any,
    receive: Callable[[], Awaitable[Any]],
    scope: Any,
    limit_bytes: int,
    reserve: Callable[[int], Any],
    pace: Pace,
) -> Buffer:
    """Read a body that did not come whole with the first message.

    A large one goes straight into a reservation of the channel, so that it is copied once, where possible by the kernel
    (`straight.py`). All bodies under way together take no more memory than the channel has. One without a length (chunked) grows
    from reservation to reservation.

    Args:
        first: The first `http.request` message.
        receive: ASGI `receive`.
        scope: ASGI scope, for Content-Length.
        limit_bytes: Largest body.
        reserve: `FrontPort.reserve`.
        pace: How fast, once it is known to be large.

    Raises:
        BodyTooLarge: over the limit, or larger than the channel; whatever is left of the body was not read.
        ChannelFull: no room for it now.
        ClientLeft: the client went away before the end.
    """
    size_bytes = declared_size(scope, limit_bytes)
    part = first["body"]
    if size_bytes is None or size_bytes < RESERVE_FROM_BYTES:
        return await _read_unmeasured(part, receive, limit_bytes, reserve, pace)
    try:
        reservation = reserve(size_bytes)
    except EntryTooLarge as error:
        raise BodyTooLarge(size_bytes, limit_bytes, unread=True) from error
    with memoryview(reservation).cast("B") as view:
        start = 0
        more = True
        while True:
            end = start + len(part)
            if end > size_bytes:
                raise BodyTooLarge(end, size_bytes, unread=more)
            view[start:end] = part
            start = end
            if not more:
                break
            straight = straight_from(receive, scope, size_bytes - start, pace)
            if straight is not None:
                if not await straight.fill(view, start):
                    raise ClientLeft
                return reservation
            part, more = await _next_part(receive, pace)
    if start != size_bytes:  # no server lets this pass; the body is what came
        return bytes(memoryview(reservation)[:start])
    return reservation


async def _read_unmeasured(
    part: bytes,
    receive: Callable[[], Awaitable[Any]],
    limit_bytes: int,
    reserve: Callable[[int], Any],
    pace: Pace,
) -> Buffer:
    body = _GrowingBody(limit_bytes, reserve)
    more = True
    while True:
        body.add(part, unread=more)
        if not more:
            return body.finish()
        part, more = await _next_part(receive, pace)


async def _next_part(receive: Callable[[], Awaitable[Any]], pace: Pace) -> tuple[bytes, bool]:
    """Return some more of a body, and whether it is still not all."""
    message = await receive()
    if message["type"] != "http.request":
        raise ClientLeft
    part, more = message.get("body", b""), message.get("more_body", False)
    pause_s = pace.pause_s(len(part)) if more else 0.0
    if pause_s:  # meanwhile the server reads no further than its own buffer goes, 64 KiB
        await asyncio.sleep(pause_s)
    return part, more


class _GrowingBody:
    """A body whose size is not known: kept in a reservation that is replaced by one of twice its size when it is full."""

    def __init__(self, limit_bytes: int, reserve: Callable[[int], Any]) -> None:
        self._limit_bytes = limit_bytes
        self._reserve = reserve
        self._room: Any = bytearray(RESERVE_FROM_BYTES)
        self._room_bytes = RESERVE_FROM_BYTES
        self._total = 0

    def add(self, part: bytes, *, unread: bool) -> None:
        end = self._total + len(part)
        if end > self._limit_bytes:
            raise BodyTooLarge(end, self._limit_bytes, unread=unread)
        if end > self._room_bytes:
            try:
                self._move(min(max(end, 2 * self._room_bytes), self._limit_bytes))
            except EntryTooLarge as error:
                raise BodyTooLarge(end, self._limit_bytes, unread=unread) from error
        with memoryview(self._room).cast("B") as view:
            view[self._total : end] = part
        self._total = end

    def finish(self) -> Buffer:
        if self._total < RESERVE_FROM_BYTES:
            return bytes(self._room[: self._total])
        if self._total != self._room_bytes:
            self._move(self._total)
        return self._room

    def _move(self, size_bytes: int) -> None:
        room = self._reserve(size_bytes)
        with memoryview(room).cast("B") as new, memoryview(self._room).cast("B") as old:
            new[: self._total] = old[: self._total]
        self._room, self._room_bytes = room, size_bytes
