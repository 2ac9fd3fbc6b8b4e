# SPDX-License-Identifier: Apache-2.0
"""One API's way from HTTP to the channel and back, as a raw ASGI callable.

Both lanes end here. The fast one comes straight from `app.py`, with no web framework between; the slow one comes through FastAPI,
where the user's middlewares and dependencies have their turn. So both give the same answers.

Flow:  app.py (fast) | routes.py (slow) -> **Lane.answer** -> intake -> exchange -> reply
Owns:  nothing per request but what is on its stack.
See:   docs/design/request-path.md
"""

from __future__ import annotations

import asyncio
import logging
import math
from typing import TYPE_CHECKING, Any, cast

from cubbyhole.core.clock import NEVER_NS, deadline_after, now_ns
from cubbyhole.core.entries import Failure, RequestEntry, Result
from cubbyhole.core.errors import CubbyholeError, EntryTooLarge
from cubbyhole.front import compression, reply
from cubbyhole.front.exchange import GONE
from cubbyhole.front.intake import (
    BodyTooLarge,
    ClientLeft,
    client_id,
    read_body,
)
from cubbyhole.front.keys import refuse_key
from cubbyhole.front.meta import MetaReader
from cubbyhole.front.pace import Pace
from cubbyhole.front.times import BodyTooSlow
from cubbyhole.front.wishes import Wishes
from cubbyhole.scheduling import policy
from cubbyhole.scheduling.admission import refusal

if TYPE_CHECKING:
    from collections.abc import Callable

    from cubbyhole.core.entries import Buffer
    from cubbyhole.front.desk import Desk
    from cubbyhole.front.exchange import Exchange, Waiter
    from cubbyhole.front.reply import Headers

logger = logging.getLogger(__name__)

ENTRY = "cubbyhole.entry"  # in a scope of the slow lane: the entry's number, for the access log
STARTING = Failure("starting", 503, "Server is still starting up")


class Refused(CubbyholeError):
    """The request gets this answer and goes no further."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.detail)
        self.failure = failure


class Lane:
    """The request path of one endpoint.

    Args:
        desk: The server's.
        endpoint: Its number in the channel.
        guarded: The API key is checked here. False where the API has its own `authorize`.
        compressed: Answers are compressed for clients that take it.
        inside_fastapi: The slow lane. Failures are raised as FastAPI's `HTTPException`, so that the user's exception handlers see
            them, and a broken stream as `StreamBroken`, so that no middleware ends it as if it were whole.

    Attributes:
        reader: Reads what the worker is told of a request, and its wishes; another one where requests come another way: handover.py.
    """

    reader: type[MetaReader] = MetaReader
    _note: Callable[..., None] | None = None  # for the access log: `access.logged`

    def __init__(
        self, desk: Desk, endpoint: int, *, guarded: bool, compressed: bool, inside_fastapi: bool
    ) -> None:
        settings = desk.settings
        self._desk = desk
        self._endpoint = endpoint
        self._timeout_s = settings.endpoints[endpoint].timeout_s
        self._retry = settings.endpoints[endpoint].retry_on_worker_death
        self._limit_bytes = settings.arena_bytes  # what the channel can hold
        if settings.max_payload_bytes is not None:
            self._limit_bytes = min(self._limit_bytes, settings.max_payload_bytes)
        receive_s = min(settings.receive_timeout_s, self._timeout_s)
        self._receive_ns = NEVER_NS // 2 if math.isinf(receive_s) else int(receive_s * 1e9)
        self._timing = settings.server_timing
        self._ids = settings.request_ids
        self._plain = not (settings.server_timing or desk.response_hooks or self._ids)
        self._error_key = getattr(desk.lit_apis[endpoint].spec, "error_key", "detail")
        negotiates = len(desk.lit_apis[endpoint].answer_formats) > 1
        self._meta_reader = self.reader(negotiates=negotiates)
        self._read_meta = self._meta_reader.read
        self._guarded = guarded
        self._compressed = compressed
        self._inside_fastapi = inside_fastapi
        self._named = settings.cancel_by_id
        self._wishes = Wishes(desk.lit_apis[endpoint], priorities=settings.priorities)
        # else the rank is the arrival: first come, first served
        self._ordered = self._wishes.ordered

    async def answer(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request (ASGI)."""
        received_ns = now_ns()
        try:
            exchange = self._admit(scope)
            body = await self._read(scope, receive, exchange, received_ns)
            meta, wishes = self._read_meta(scope, received_ns)
            waiter = self._submit(exchange, scope, body, meta, wishes, received_ns, receive)
        except (ClientLeft, CubbyholeError) as error:
            return await self._turn_away(scope, receive, send, error, received_ns)
        del body  # the channel has it now; a reservation must not live as long as its request
        try:
            collected = await waiter.future
        except BaseException:  # this task is cancelled: nobody will read the answer
            self._abandon(scope, exchange, waiter)
            raise
        outcome = collected.outcome
        # The case that most requests are, without a further call: a short JSON result.
        if type(outcome) is Result and self._plain and not (meta or outcome.meta):
            content = outcome.body
            if type(content) is bytes and len(content) < compression.MINIMUM_BYTES:
                head = [reply.JSON_TYPE, (b"content-length", b"%d" % len(content))]
                start = {"type": "http.response.start", "status": outcome.status, "headers": head}
                await send(start)
                await send({"type": "http.response.body", "body": content})
                if self._note is not None:
                    self._note(scope, received_ns, outcome.status, len(content), b"", waiter.id)
                return None
        return await self._reply(scope, send, exchange, waiter, collected)

    def _admit(self, scope: Any) -> Exchange:
        desk = self._desk
        exchange = desk.exchange
        if exchange is None:
            raise Refused(STARTING)
        if self._guarded:
            key = desk.read_api_key()
            if key is not None:
                failure = refuse_key(key, scope["headers"])
                if failure is not None:
                    raise Refused(failure)
        return exchange

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
        rank, deadline_ns = received_ns, deadline_after(self._timeout_s, received_ns)
        if wishes is not None:
            deadline_ns = self._wishes.grant_deadline(wishes, received_ns, deadline_ns)
        if self._ordered:
            rank = self._rank(scope, wishes, received_ns, deadline_ns)
        if self._desk.request_hooks:
            self._desk.announce_request()
        entry = RequestEntry(
            next(exchange.ids),
            self._endpoint,
            body,
            meta,
            rank,
            deadline_ns,
            self._retry,
            received_ns,
        )
        waiter = exchange.submit(entry, receive)
        if self._named:
            waiter.name = client_id(scope["headers"])
        if self._inside_fastapi:
            scope[ENTRY] = waiter.id
        return waiter

    def _rank(
        self, scope: Any, wishes: dict[bytes, bytes] | None, received_ns: int, deadline_ns: int
    ) -> int:
        return policy.rank(
            received_ns, self._wishes.priority(wishes, scope["headers"]), deadline_ns
        )

    async def _read(self, scope: Any, receive: Any, exchange: Exchange, received_ns: int) -> Buffer:
        """Read the body, as long as the client has time for it: a slow sender must not hold its place for ever."""
        task = cast("asyncio.Task[Any]", asyncio.current_task())
        exchange.begin_reading(task, received_ns + self._receive_ns)
        try:
            body = await self._intake(scope, receive, exchange)
        except asyncio.CancelledError:
            if exchange.end_reading(task):
                raise BodyTooSlow(
                    f"The request's body took longer than {self._receive_ns / 1e9:.3g} s to come."
                ) from None
            raise
        except BaseException:
            exchange.end_reading(task)
            raise
        exchange.end_reading(task)
        return body

    async def _intake(self, scope: Any, receive: Any, exchange: Exchange) -> Buffer:
        message = await receive()
        if message["type"] != "http.request":
            raise ClientLeft
        body = message.get("body", b"")
        if message.get("more_body", False):
            first, pace = {"body": body}, Pace(exchange.statistics)
            return await read_body(first, receive, scope, self._limit_bytes, exchange.reserve, pace)
        if len(body) > self._limit_bytes:
            raise BodyTooLarge(len(body), self._limit_bytes, unread=False)
        return body

    def _abandon(self, scope: Any, exchange: Exchange, waiter: Waiter) -> None:  # noqa: ARG002  (for lanes that note it)
        exchange.leave(waiter)

    async def _reply(
        self, scope: Any, send: Any, exchange: Exchange, waiter: Waiter, collected: Any
    ) -> None:
        extra = self._extra_headers(scope, waiter, collected)
        outcome = collected.outcome
        if outcome is None:
            try:
                failure = await reply.send_stream(send, exchange, waiter, extra)
            except reply.StreamBroken:
                if self._inside_fastapi:
                    scope.get(reply.STREAM_STATE, {})["broken"] = True
                    raise
                # An answer left incomplete makes the server close the connection, which is what the client must see. The worker
                # logged what happened.
                return
            except BaseException:
                exchange.leave(waiter)
                raise
            finally:
                exchange.finish(waiter)
                self._desk.announce_response()
            if failure is not None:
                await self._fail_entry(scope, send, waiter, collected, failure, extra)
        elif isinstance(outcome, Failure):
            await self._fail_entry(scope, send, waiter, collected, outcome, extra)
        else:
            self._desk.announce_response()
            if self._inside_fastapi:
                outcome.body = bytes(outcome.body)  # middlewares of users expect bytes
            await reply.send_result(
                send, outcome, extra, scope["headers"] if self._compressed else None
            )

    def _extra_headers(self, scope: Any, waiter: Waiter, collected: Any) -> Headers:
        name = client_id(scope["headers"])
        if not name and self._ids:
            name = b"%d" % waiter.id
        extra: Headers = [(b"x-request-id", name)] if name else []
        if self._timing:
            extra.append(reply.timing_header(collected, now_ns()))
        return extra

    def _name(self, scope: Any) -> bytes:
        """The client's id of a request that has no entry, or a new one."""
        exchange = self._desk.exchange
        return client_id(scope["headers"]) or (
            b"" if exchange is None else b"%d" % next(exchange.ids)
        )

    async def _turn_away(
        self,
        scope: Any,
        receive: Any,
        send: Any,
        error: Exception,
        received_ns: int,  # noqa: ARG002  (for a lane that notes it)
    ) -> None:
        """Answer a request that has no entry, for the reason `error`; it came at `received_ns`."""
        if isinstance(error, ClientLeft):
            await self._answer_nobody(send)
        elif isinstance(error, (BodyTooLarge, EntryTooLarge)):
            self._desk.reject(error.code)
            unread = isinstance(error, BodyTooLarge) and error.unread
            await self._refuse_body(scope, send, receive, unread=unread)
        elif isinstance(error, CubbyholeError):
            await self._refuse(scope, send, error)

    async def _refuse_body(self, scope: Any, send: Any, receive: Any, *, unread: bool) -> None:
        extra: Headers = [(b"x-request-id", self._name(scope))]
        await reply.send_too_large(send, receive, extra, unread=unread, key=self._error_key)

    async def _refuse(self, scope: Any, send: Any, error: CubbyholeError) -> None:
        name = self._name(scope)
        extra: Headers = [(b"x-request-id", name)] if name else []
        if isinstance(error, Refused):
            self._desk.reject(error.failure.code)
            return await self._fail(send, error.failure, extra)
        self._desk.reject(error.code)
        logger.debug(
            "request refused: request_id=%s code=%s reason=%s", name.decode(), error.code, error
        )
        exchange = self._desk.exchange
        wait_s = 1 if exchange is None else exchange.retry_after_s()
        return await self._fail(send, refusal(error, wait_s), extra)

    async def _fail_entry(
        self,
        scope: Any,
        send: Any,
        waiter: Waiter,
        collected: Any,
        failure: Failure,
        extra: Headers,
    ) -> None:
        if failure is GONE:
            return await self._answer_nobody(send)
        request_id = client_id(scope["headers"])
        if not request_id and not self._ids:  # with it the client can ask: cubbyhole inspect ID
            extra.append((b"x-request-id", b"%d" % waiter.id))
        self._desk.keep_failure(
            failure,
            collected,
            endpoint=self._endpoint,
            request_id=request_id,
            received_ns=waiter.since_ns,
        )
        return await self._fail(send, failure, extra)

    async def _answer_nobody(self, send: Any) -> None:
        """The client left. To middlewares of the user's an app that sends nothing is broken, so they get something that goes nowhere."""
        if self._inside_fastapi:
            await send({"type": "http.response.start", "status": GONE.status, "headers": []})
            await send({"type": "http.response.body", "body": b""})

    async def _fail(self, send: Any, failure: Failure, extra: Headers) -> None:
        if not self._inside_fastapi or self._error_key != "detail":
            return await reply.send_failure(send, failure, extra, self._error_key)
        from fastapi import HTTPException

        headers = reply.failure_headers(failure)
        headers |= {name.decode("latin-1"): value.decode("latin-1") for name, value in extra}
        raise HTTPException(failure.status, failure.detail, headers)
