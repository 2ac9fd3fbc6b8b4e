# SPDX-License-Identifier: Apache-2.0
"""A line for each request, written out of its way: the event loop notes what was answered, a thread formats and writes it.

Off unless `access_log=True`; then it costs a request a wrapped `send` and one append. The thread shares the interpreter with the event
loop, so a line has to be cheap, too: where our own handler writes, many lines are one write, and none is a `LogRecord`
(observe/access_lines.py). Handlers of the user's own get records.

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
from cubbyhole.observe.access_lines import Answered, write_lines

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger("cubbyhole.access")

WRITE_EVERY_S = 0.05  # often, as the event loop waits while a batch of lines is made: 1 ms for 400
MOST_NOTED = 50_000  # a few megabytes; a disk that stops must not take the front's memory


class Answer:
    """What is seen of one answer as it passes."""

    __slots__ = ("_send", "name", "size", "status")

    def __init__(self, send: Callable[[Any], Any]) -> None:
        self._send = send
        self.status = 0
        self.size = 0
        self.name = b""

    def send(self, message: Any) -> Any:
        """Look at a message and pass it on. No coroutine of its own: it returns that of the server's `send`."""
        body = message.get("body")
        if body is not None:
            self.size += len(body)
        elif message["type"] == "http.response.start":
            self.status = message["status"]
            for key, value in message["headers"]:
                if key == b"x-request-id":
                    self.name = value
        return self._send(message)


class AccessLog:
    """An ASGI app around another one.

    Args:
        app: What serves.
        write_every_s: Between two looks of the thread.
    """

    def __init__(self, app: Callable[..., Any], write_every_s: float = WRITE_EVERY_S) -> None:
        self._app = app
        self._noted: deque[Answered] = deque()
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
        answer = Answer(send)
        try:
            await self._app(scope, receive, answer.send)
        finally:
            if len(self._noted) < MOST_NOTED:
                ended_ns = now_ns()
                self._noted.append(
                    (
                        ended_ns,
                        ended_ns - began_ns,
                        scope["method"],
                        scope["path"],
                        answer.status,
                        answer.size,
                        scope.get("client"),
                        answer.name,
                    )
                )
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
        take = self._noted.popleft  # the event loop appends meanwhile
        noted = [take() for _ in range(len(self._noted))]
        if noted:
            write_lines(logger, noted)
        if self._left_out:
            count, self._left_out = self._left_out, 0
            logger.warning('requests not logged: count=%d reason="too many at once"', count)
