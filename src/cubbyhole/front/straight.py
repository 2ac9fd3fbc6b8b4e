# SPDX-License-Identifier: Apache-2.0
"""A large body's bytes, straight from the socket into their reservation.

uvicorn gives a body as `bytes`, which were copied five times on the way: out of the loop's buffer, out of the parser, into uvicorn's
own buffer, out of it, and here into the reservation. A body whose length is known needs no parser, so for as long as its bytes come
the connection belongs to a protocol that has the kernel write them where they stay.

Flow:  intake.read_body -> **straight_from** -> transport -> **StraightBody** -> the reservation
Owns:  a connection's reading side, from `fill` to the last byte of the body; then uvicorn has it back.
See:   docs/design/request-path.md

Only where the ASGI callable is uvicorn's own, with httptools, without TLS: whoever wraps `receive` gets to see each message of it.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, cast

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

if TYPE_CHECKING:
    from uvicorn.protocols.http.flow_control import FlowControl

    from cubbyhole.front.pace import Pace

# Below it the two changes of protocol cost more than they save.
FROM_BYTES = 256 * 1024
_DROP_BYTES = 64 * 1024


class StraightBody(asyncio.BufferedProtocol):
    """Reads the rest of one request's body, in the place of uvicorn's protocol.

    Args:
        protocol: uvicorn's, which gets everything but the bytes.
        pace: The body's.
    """

    def __init__(self, protocol: HttpToolsProtocol, pace: Pace) -> None:
        self._protocol = protocol
        self._pace = pace
        self._flow: FlowControl = protocol.flow
        self._loop = asyncio.get_running_loop()
        self._whole: asyncio.Future[None] = self._loop.create_future()
        self._view: memoryview | None = None
        self._start = self._size = self._asked_bytes = 0

    async def fill(self, view: memoryview, start: int) -> bool:
        """Write what is left of the body to `view[start:]`. A caller that is cancelled leaves the connection usable: the rest is dropped.

        Returns:
            Whether all came; False: the client went away.
        """
        cycle = self._protocol.cycle
        if cycle.disconnected:
            return False
        held = cycle.body  # by uvicorn, since the last message
        self._start, self._size = start + len(held), len(view)
        view[start : self._start] = held
        cycle.body = bytearray()
        cycle.message_event.clear()
        if self._start == self._size:
            return True
        self._view = view
        self._take_over(self)
        try:
            await self._whole
        finally:
            self._view = None  # the reservation is the caller's again
        return not cycle.disconnected

    def get_buffer(self, sizehint: int) -> Any:  # noqa: ARG002  (asyncio's; we know better)
        """Say where the next bytes go."""
        most = self._pace.turn_bytes() if self._view is not None else _DROP_BYTES
        self._asked_bytes = min(self._size - self._start, most)
        if self._view is None:
            return bytearray(self._asked_bytes)
        return self._view[self._start : self._start + self._asked_bytes]

    def buffer_updated(self, nbytes: int) -> None:
        """They are there."""
        self._start += nbytes
        if self._start == self._size:
            self._hand_back()
            return
        pause_s = self._pace.pause_s(nbytes)
        if pause_s:
            self._flow.pause_reading()
            self._loop.call_later(pause_s, self._flow.resume_reading)
        elif nbytes == self._asked_bytes:  # libuv would go on for as long as there is something
            self._flow.pause_reading()
            self._loop.call_soon(self._flow.resume_reading)

    def pause_writing(self) -> None:
        """Tell uvicorn."""
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        """Tell uvicorn."""
        self._protocol.resume_writing()

    def eof_received(self) -> None:
        """Tell uvicorn; the transport closes itself."""
        self._protocol.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell uvicorn, and whoever waits for the body."""
        self._protocol.connection_lost(exc)
        self._wake()

    def _hand_back(self) -> None:
        protocol = self._protocol
        # Its parser still waits for the bytes that it never saw. The next request is read by a new one, made as uvicorn makes it.
        protocol.parser = httptools.HttpRequestParser(protocol)
        with contextlib.suppress(AttributeError):  # httptools before 0.6.3
            protocol.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        protocol.cycle.more_body = False
        self._take_over(protocol)
        self._wake()

    def _take_over(self, protocol: asyncio.BaseProtocol) -> None:
        # Between a pause and its end, because a loop may look only when reading begins which kind of protocol it has.
        self._flow.pause_reading()
        self._protocol.transport.set_protocol(protocol)
        self._flow.resume_reading()

    def _wake(self) -> None:
        if not self._whole.done():
            self._whole.set_result(None)


def straight_from(receive: Any, scope: Any, left_bytes: int, pace: Pace) -> StraightBody | None:
    """Return what reads the rest of a body, whose length the client has told; None where it has to come as messages.

    Args:
        receive: ASGI `receive`.
        scope: ASGI scope.
        left_bytes: Still to come.
        pace: The body's.
    """
    cycle = getattr(receive, "__self__", None)
    if left_bytes < FROM_BYTES or type(cycle) is not RequestResponseCycle or not cycle.more_body:
        return None
    protocol = cast("Any", cycle.transport.get_protocol())
    if not isinstance(protocol, HttpToolsProtocol) or protocol.cycle is not cycle:
        return None
    # The parser refuses a body with two lengths; should another one let it pass, it is not ours to say which counts.
    chunked = any(name == b"transfer-encoding" for name, _ in scope["headers"])
    return None if chunked or protocol.scheme != "http" else StraightBody(protocol, pace)
