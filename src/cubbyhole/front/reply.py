# SPDX-License-Identifier: Apache-2.0
"""Result, Failure or stream -> ASGI messages.

Flow:  exchange.py -> lane.py -> **reply.py** -> uvicorn
Owns:  nothing. A body that lies in the segment is sent as a view, and held until the server wrote it.
See:   docs/design/request-path.md
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from cubbyhole.core.entries import Failure, ResultMeta
from cubbyhole.front import compression

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from cubbyhole.core.entries import Buffer, Collected, Result
    from cubbyhole.front.exchange import Exchange, Waiter

    Receive: TypeAlias = Callable[[], Awaitable[Any]]
    Send: TypeAlias = Callable[[Any], Awaitable[None]]

Headers: TypeAlias = "list[tuple[bytes, bytes]]"

JSON_TYPE = (b"content-type", b"application/json")
CLOSE = (b"connection", b"close")
VARY = (b"vary", b"Accept-Encoding")
GZIPPED = (b"content-encoding", b"gzip")
STREAM_STATE = "cubbyhole.stream"  # key in an ASGI scope: how the slow lane tells the outermost app of a broken stream
LINGER_BYTES = 16 << 20  # what is under way when a client sees the 413 and stops
LINGER_S = 2.0
LOOK_S = 0.5  # for who has sent even more, and has not had its turn yet: nothing of it is read any more, it can only look
RETRY_AFTER_S = "1"  # as long as a queue of short requests takes to move on

_decode_meta = msgspec.msgpack.Decoder(ResultMeta).decode
_encode_json = msgspec.json.Encoder().encode


class StreamBroken(Exception):
    """A stream that had begun cannot be completed: the connection must end so that the client sees it."""


def timing_header(collected: Collected, now_ns: int) -> tuple[bytes, bytes]:
    """Say how long the request was in each state of its entry, as a `Server-Timing` header in milliseconds."""
    received, ready, claimed, first_chunk, done = collected.times_ns
    spans = (
        ("intake", received, ready),
        ("queue", ready, claimed),
        ("run", claimed, done or first_chunk),
        ("collect", done or first_chunk, now_ns),
    )
    text = ", ".join(
        f"{name};dur={(end - start) / 1e6:.3f}" for name, start, end in spans if start and end
    )
    return (b"server-timing", text.encode())


def _as_view(body: Buffer) -> Buffer:
    return body if type(body) is bytes else memoryview(body).cast("B")


def meta_headers(meta: bytes) -> tuple[Headers, str | None]:
    """Return the head's headers, without a length, and its content type."""
    if not meta:
        return [JSON_TYPE], "application/json"
    decoded = _decode_meta(meta)
    headers = [
        (name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in decoded.headers
    ]
    if decoded.content_type is not None:
        headers.append((b"content-type", decoded.content_type.encode("latin-1")))
    return headers, decoded.content_type


async def send_result(
    send: Send, result: Result, extra: Headers, request_headers: Headers | None
) -> None:
    """Send a whole answer.

    Args:
        send: ASGI `send`.
        result: Its body is sent as it is; a view is not copied.
        extra: More headers.
        request_headers: The client's, where the answer may be compressed for it; None: never compress.
    """
    body = _as_view(result.body)
    headers, content_type = meta_headers(result.meta)
    headers += extra
    status = result.status
    if (
        request_headers is not None
        and len(body) >= compression.MINIMUM_BYTES
        and compression.is_compressible(content_type)
        and not any(name == b"content-encoding" for name, _ in headers)
    ):
        headers.append(VARY)
        if compression.accepts_gzip(request_headers):
            body = await compression.compress(body)
            headers.append(GZIPPED)
    if status == 204 or status == 304 or status < 200:  # noqa: PLR1714  (two compares, not a set, per request)
        body = b""
    else:
        headers.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def failure_headers(failure: Failure) -> dict[str, str]:
    """Return a failure's headers; a 503 always says when to come again."""
    headers = failure.headers
    if failure.status == 503 and not any(name.lower() == "retry-after" for name in headers):
        return {**headers, "Retry-After": RETRY_AFTER_S}
    return headers


async def send_failure(send: Send, failure: Failure, extra: Headers, key: str = "detail") -> None:
    """Send a failure as `{"detail": ...}`, or under the key that a spec has for it, with its status."""
    body = _encode_json({key: failure.detail})
    headers = [
        (name.lower().encode("latin-1"), value.encode("latin-1"))
        for name, value in failure_headers(failure).items()
    ]
    headers += extra
    if failure.status in {204, 304}:
        body = b""
    else:
        headers += (JSON_TYPE, (b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": failure.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def send_too_large(
    send: Send, receive: Receive, extra: Headers, *, unread: bool, key: str = "detail"
) -> None:
    """Send 413. Where the client may still be sending, read and drop a little of it, and close.

    Closing with bytes unread would make the kernel reset the connection, and the client lose the answer.
    """
    body = _encode_json({key: "Payload too large"})
    headers = [JSON_TYPE, (b"content-length", b"%d" % len(body)), *extra]
    if unread:
        headers.append(CLOSE)
    await send({"type": "http.response.start", "status": 413, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": True})
    if unread:
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(_drop_body(receive), LINGER_S)
    await send({"type": "http.response.body", "body": b""})


async def _drop_body(receive: Receive) -> None:
    dropped = 0
    while dropped < LINGER_BYTES:
        message = await receive()
        dropped += len(message.get("body", b""))
        if not message.get("more_body", False):
            return
    await asyncio.sleep(LOOK_S)


async def send_stream(
    send: Send, exchange: Exchange, waiter: Waiter, extra: Headers
) -> Failure | None:
    """Send a stream while it comes. The next chunks are taken only after `send` let go of the last ones.

    So a slow client stops its own writer, which has credit for what was not taken yet, and nobody else.

    Returns:
        A Failure that came before the first chunk, and with which the caller must answer; else None.

    Raises:
        StreamBroken: it failed after the first chunk, or its client left.
    """
    started = False
    while True:
        taken = exchange.take(waiter)
        end = taken.end
        failed = type(end) is Failure
        if not started:
            if taken.head is not None:
                status, meta = taken.head
            elif end is None:
                await exchange.wait_news(waiter)
                continue
            elif isinstance(end, Failure):
                return end
            else:
                status, meta = end.status, end.meta
            headers, _ = meta_headers(meta)
            await send(
                {"type": "http.response.start", "status": status, "headers": headers + extra}
            )
            started = True
        body = b"".join(taken.chunks)
        if end is not None and not isinstance(end, Failure):
            await send({"type": "http.response.body", "body": body + bytes(end.body)})
            return None
        if body:
            await send({"type": "http.response.body", "body": body, "more_body": True})
        if failed or waiter.left:
            code = end.code if isinstance(end, Failure) else "cancelled"
            raise StreamBroken(f"The stream ended by {code} after it had begun.")
        await exchange.wait_news(waiter)


async def data_streamer(
    q: Any, data_available: Any, send_status: bool = False
) -> AsyncIterator[Any]:
    """Yield what a deque of (data, status) gets until its stream is finished; LitServe's tool for specs of users."""
    while True:
        await data_available.wait()
        while q:
            data, status = q.popleft()
            if status == "FINISH_STREAMING":
                return
            yield (data, status) if send_status else data
        data_available.clear()
