# SPDX-License-Identifier: Apache-2.0
"""A line for each request, written out of its way: the event loop notes what was answered, a thread formats and writes it.

Off unless `access_log=True`; then it costs a request a wrapped `send` and one append.

Flow:  uvicorn -> **AccessLog** -> FrontApp;  noted -> the thread, some times a second -> logger `cubbyhole.access`
Owns:  the thread, and what is noted and not written yet: `MOST_NOTED` at most, the rest is counted.
See:   docs/guide/logs.md
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from typing import TYPE_CHECKING, Any

from cubbyhole.core.clock import now_ns

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger("cubbyhole.access")

WRITE_EVERY_S = 0.2
MOST_NOTED = 50_000  # a few megabytes; a disk that stops must not take the front's memory


class AccessLog:
    """An ASGI app around another one.

    Args:
        app: What serves.
        write_every_s: Between two looks of the thread.
    """

    def __init__(self, app: Callable[..., Any], write_every_s: float = WRITE_EVERY_S) -> None:
        self._app = app
        self._noted: deque[tuple[Any, ...]] = deque()
        self._left_out = 0
        self._ended = threading.Event()
        self._write_every_s = write_every_s
        self._thread: threading.Thread | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve, and note how it went."""
        if scope["type"] != "http":
            await self._serve_lifespan(scope, receive, send)
            return
        began_ns = now_ns()
        status, name, size = 0, b"", 0

        async def send_on(message: Any) -> None:
            nonlocal status, name, size
            if message["type"] == "http.response.start":
                status = message["status"]
                for key, value in message["headers"]:
                    if key == b"x-request-id":
                        name = value
            else:
                size += len(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, receive, send_on)
        finally:
            if len(self._noted) < MOST_NOTED:
                self._noted.append((scope, status, now_ns() - began_ns, size, name))
            else:
                self._left_out += 1

    async def _serve_lifespan(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan" and self._thread is None:
            self._thread = threading.Thread(target=self._work, name="access-log", daemon=True)
            self._thread.start()
        try:
            await self._app(scope, receive, send)
        finally:
            if scope["type"] == "lifespan":
                self._ended.set()
                if self._thread is not None:
                    self._thread.join(2.0)  # a terminal that is stopped must not hold up the end

    def _work(self) -> None:
        while not self._ended.wait(self._write_every_s):
            self.write()
        self.write()

    def write(self) -> None:
        """Write what is noted."""
        while self._noted:
            scope, status, took_ns, size, name = self._noted.popleft()
            client = scope.get("client")
            logger.info(
                "request: method=%s path=%s status=%d duration_ms=%.3f bytes=%d client=%s request_id=%s",
                scope["method"],
                _shown(scope["path"]),
                status,
                round(took_ns / 1e6, 3),
                size,
                "-" if client is None else f"{client[0]}:{client[1]}",
                name.decode("latin-1") or "-",
            )
        if self._left_out:
            count, self._left_out = self._left_out, 0
            logger.warning('requests not logged: count=%d reason="too many at once"', count)


def _shown(path: str) -> str:
    """A path as one word: the client chose it, and might have put a line break into it."""
    return "".join(one if one.isprintable() and one != " " else f"%{ord(one):02X}" for one in path)
