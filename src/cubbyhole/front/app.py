# SPDX-License-Identifier: Apache-2.0
"""The ASGI callable that uvicorn runs: a fast lane for model paths, FastAPI for everything else.

    POST to a model path  -> one dict lookup -> Lane.answer            (no FastAPI or Starlette object)
    anything else         -> server.app (FastAPI): documents, health, user routes, mounts, lifespan

An API takes the slow lane, through FastAPI's routing, where user code must see its requests: middlewares, an `authorize`, exception
handlers or dependency overrides that were added to `server.app`. Which lane a path takes is told by `/info`.

Owns:  nothing.
See:   docs/design/request-path.md
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cubbyhole.front.reply import STREAM_STATE, StreamBroken

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping

    from cubbyhole.front.desk import Desk
    from cubbyhole.front.lane import Lane


class FrontApp:
    """Dispatch between the lanes.

    Args:
        desk: The server's.
        app: `server.app`, perhaps in a wrapper.
        lanes: Fast lanes by HTTP path, with the root path before it where the server has one.
    """

    def __init__(self, desk: Desk, app: Any, lanes: Mapping[str, Lane]) -> None:
        self._desk = desk
        self._app = app
        self._lanes = dict(lanes)
        self._tracked = desk.settings.track_requests
        self._streams = any(endpoint.stream for endpoint in desk.settings.endpoints)

    def __call__(self, scope: Any, receive: Any, send: Any) -> Coroutine[Any, Any, None]:
        """Serve one ASGI connection. Not a coroutine function itself, which saves a frame per request."""
        if scope["type"] == "http" and scope["method"] == "POST":
            lane = self._lanes.get(scope["path"])
            if lane is not None:
                if self._tracked:
                    return self._counted(lane, scope, receive, send)
                return lane.answer(scope, receive, send)
            if self._streams:
                return self._unfinished_if_broken(scope, receive, send)
        coroutine: Coroutine[Any, Any, None] = self._app(scope, receive, send)
        return coroutine

    async def _counted(self, lane: Lane, scope: Any, receive: Any, send: Any) -> None:
        self._desk.count(1)
        try:
            await lane.answer(scope, receive, send)
        finally:
            self._desk.count(-1)

    async def _unfinished_if_broken(self, scope: Any, receive: Any, send: Any) -> None:
        """Keep middlewares from ending a broken stream as if it were whole, which Starlette's `BaseHTTPMiddleware` does."""
        stream = scope[STREAM_STATE] = {"broken": False}

        async def send_on(message: Any) -> None:
            if stream["broken"] and not message.get("more_body", False):
                raise StreamBroken("The stream ended by a failure after it had begun.")
            await send(message)

        try:
            await self._app(scope, receive, send_on)
        except StreamBroken:
            return  # incomplete, and so the server closes the connection; the worker logged what happened
