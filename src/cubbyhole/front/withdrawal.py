# SPDX-License-Identifier: Apache-2.0
"""`DELETE /requests/{id}`: a client takes a request back, by the X-Request-ID that it sent with it.

Off unless `LitServer(cancel_by_id=True)`. The API key, where there is one, guards it as it guards the rest; an id is
chosen by its client, so one that others can guess is one that others can cancel.

Flow:  DELETE -> **withdraw** -> Exchange.withdraw here, and a datagram to each other front: any of them may have the request
Owns:  the mailboxes, made by the supervisor before it forks the fronts.
See:   docs/guide/failures.md
"""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING, Any

from cubbyhole.core.entries import Failure
from cubbyhole.front.intake import ID_BYTES, clean_id

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from cubbyhole.front.desk import Desk

WITHDRAWN = Failure("cancelled", 499, "Request cancelled")
PATH = "/requests/{request_id}"


class Mailboxes:
    """A datagram socket for each front, to which all of them can write.

    Args:
        fronts: How many.
    """

    def __init__(self, fronts: int) -> None:
        self._boxes = [socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(fronts)]
        for pair in self._boxes:
            for end in pair:
                end.setblocking(False)

    def tell_others(self, index: int, name: bytes) -> None:
        """Send an id to every front but `index`. One whose box is full does not get it."""
        for other, (_, writer) in enumerate(self._boxes):
            if other != index:
                with contextlib.suppress(BlockingIOError, ConnectionError):
                    writer.send(name)

    def listen(
        self, index: int, loop: asyncio.AbstractEventLoop, hear: Callable[[bytes], object]
    ) -> None:
        """Call `hear` with each id that is sent to front `index`."""
        reader = self._boxes[index][0]

        def read() -> None:
            with contextlib.suppress(BlockingIOError):
                while True:
                    hear(reader.recv(ID_BYTES))

        loop.add_reader(reader, read)


def add_withdrawal_route(app: Any, desk: Desk, guard: Callable[..., Any]) -> None:
    """Add the endpoint. It answers 202: whether some front had the request, its own client is told.

    Args:
        app: The FastAPI app.
        desk: The server's.
        guard: A dependency that asks for the API key.
    """
    from fastapi import Depends, Response

    async def withdraw(request_id: str) -> Response:
        name = clean_id(request_id.encode())
        if desk.exchange is not None and not desk.exchange.withdraw(name):
            desk.tell_other_fronts(name)
        return Response(status_code=202)

    app.add_api_route(PATH, withdraw, methods=["DELETE"], dependencies=[Depends(guard)])
