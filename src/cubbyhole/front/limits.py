# SPDX-License-Identifier: Apache-2.0
"""Middlewares that LitServe puts around the whole app: body size and the count of open requests.

Model paths in the fast lane do both by themselves; these are for everything that goes through FastAPI.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cubbyhole.front.intake import BodyTooLarge, declared_size
from cubbyhole.front.reply import LINGER_BYTES, send_too_large

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp, Receive, Scope, Send

    from cubbyhole.front.desk import Desk

UNCOUNTED_PATHS = frozenset(("/", "/health", "/metrics"))


class MaxSizeMiddleware:
    """Answer 413 to a body over the limit, before it is read to its end.

    Args:
        app: The ASGI app inside.
        max_size: Largest body in bytes; None: no limit.
        reject: Called with the code of each refusal.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        max_size: float | None = None,
        reject: Callable[[str], None] | None = None,
    ) -> None:
        self.app = app
        self.max_size = max_size
        self.reject = reject

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] != "http" or self.max_size is None:
            await self.app(scope, receive, send)
            return
        limit_bytes = bound_bytes = int(self.max_size)
        total = 0
        started = False

        async def counted() -> Any:
            nonlocal total, bound_bytes
            message = await receive()
            if message["type"] == "http.request":
                total += len(message.get("body", b""))
                if total > bound_bytes:
                    unread = message.get("more_body", False)
                    # A lane that was told answers, and reads on to drop what the client still sends.
                    bound_bytes = total + 2 * LINGER_BYTES
                    raise BodyTooLarge(total, limit_bytes, unread=unread)
            return message

        async def watched(message: Any) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            declared_size(scope, limit_bytes)
            await self.app(scope, counted, watched)
        except BodyTooLarge as error:
            if started:
                raise
            if self.reject is not None:
                self.reject(error.code)
            await send_too_large(send, receive, [], unread=error.unread)


class RequestCountMiddleware:
    """Count the open requests of this front.

    Args:
        app: The ASGI app inside.
        desk: Keeps the count.
        paths: More paths that are not counted, e.g. a health path of the user's.
    """

    def __init__(self, app: ASGIApp, *, desk: Desk, paths: frozenset[str] = frozenset()) -> None:
        self.app = app
        self.desk = desk
        self.uncounted = UNCOUNTED_PATHS | paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] != "http" or scope["path"] in self.uncounted:
            await self.app(scope, receive, send)
            return
        self.desk.count(1)
        try:
            await self.app(scope, receive, send)
        finally:
            self.desk.count(-1)
