# SPDX-License-Identifier: Apache-2.0
"""A line for each request, out of its way: the event loop notes what was answered, a thread writes.

Off unless `access_log=True`. A lane of the fast ones notes a short answer by itself, in C (observe/notes.py); what else is answered passes
an `Answer`, which looks at its messages. Where our own handler writes, the thread makes text of thousands at a time, without the
interpreter's lock (observe/access_lines.py). Handlers of the user's own get records: they may wait for a disk or a network.

Flow:  FrontApp -> a lane that is **logged** | **AccessLog** -> server.app;  Notes -> the thread -> `cubbyhole.access`
Owns:  the thread, and what is noted and not written yet: `MOST_BYTES`, the rest is counted.
See:   docs/guide/logs.md
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any

from cubbyhole.core.clock import now_ns
from cubbyhole.front.exchange import GONE
from cubbyhole.front.intake import client_id
from cubbyhole.front.lane import ENTRY
from cubbyhole.observe.access_lines import write_lines
from cubbyhole.observe.notes import Notes

if TYPE_CHECKING:
    from collections.abc import Callable

    from cubbyhole.front.exchange import Exchange, Waiter
    from cubbyhole.front.lane import Lane

logger = logging.getLogger("cubbyhole.access")

WRITE_EVERY_S = 0.5  # each time the thread and the event loop get into each other's way a little
MOST_BYTES = 8 << 20  # some 90,000 requests; a disk that stops must not take the front's memory
LOST = ("too many at once", "something odd in their scope")  # as `Notes.lost` counts


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

    def name_in(self, scope: Any) -> bytes:
        """Return the id that it had, else the one that its client sent."""
        return self.name or client_id(scope.get("headers", []))


class AccessLog:
    """An ASGI app around another one, whose requests it notes.

    Args:
        app: What serves.

    Attributes:
        note: Notes a request that ends now: `Notes.note`.
    """

    def __init__(self, app: Callable[..., Any]) -> None:
        self._app = app
        self._notes = Notes(MOST_BYTES)
        self.note = self._notes.note
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve, and note how it went."""
        if scope["type"] != "http":
            await self._serve_lifespan(scope, receive, send)
            return
        began_ns, answer = now_ns(), Answer(send)
        try:
            await self._app(scope, receive, answer.send)
        finally:
            name = answer.name_in(scope)
            self.note(scope, began_ns, answer.status, answer.size, name, scope.get(ENTRY, 0))

    def write(self) -> None:
        """Write what is noted."""
        write_lines(logger, self._notes)
        for count, reason in zip(self._notes.lost(), LOST, strict=True):
            if count:
                logger.warning("requests not logged: count=%d reason=%r", count, reason)

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
        while not self._ended.wait(WRITE_EVERY_S):
            self._write_safely()
        self._write_safely()

    def _write_safely(self) -> None:
        try:
            self.write()
        except Exception:
            logger.exception("access log: lines lost, as a filter or a handler raised")


def logged(base: type[Lane], log: AccessLog) -> type[Lane]:
    """Return a kind of lane that notes its requests.

    Args:
        base: The kind that serves.
        log: Of this front.
    """

    class LoggedLane(base):  # type: ignore[valid-type, misc]  # a class made for the options of a server
        """See the module."""

        _note = staticmethod(log.note)  # into C, with no call of Python's between

        async def _reply(
            self, scope: Any, send: Any, exchange: Exchange, waiter: Waiter, collected: Any
        ) -> None:
            answer = Answer(send)
            try:
                await super()._reply(scope, answer.send, exchange, waiter, collected)
                answer.status = answer.status or GONE.status
            finally:
                name = answer.name_in(scope)
                log.note(scope, waiter.since_ns, answer.status, answer.size, name, waiter.id)

        async def _turn_away(
            self, scope: Any, receive: Any, send: Any, error: Exception, received_ns: int
        ) -> None:
            answer = Answer(send)
            try:
                await super()._turn_away(scope, receive, answer.send, error, received_ns)
                answer.status = answer.status or GONE.status
            finally:
                log.note(scope, received_ns, answer.status, answer.size, answer.name_in(scope))

        def _abandon(self, scope: Any, exchange: Exchange, waiter: Waiter) -> None:
            super()._abandon(scope, exchange, waiter)
            log.note(scope, waiter.since_ns, 0, 0, client_id(scope["headers"]), waiter.id)

    return LoggedLane
