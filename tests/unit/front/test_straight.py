# SPDX-License-Identifier: Apache-2.0
"""Large bodies that the kernel writes into their reservation, under a real uvicorn and over real sockets."""

from __future__ import annotations

import asyncio
import hashlib
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import uvicorn
import uvloop

from cubbyhole.front import pace
from cubbyhole.front.exchange import ExchangeStatistics
from cubbyhole.front.intake import ClientLeft, read_body
from cubbyhole.front.pace import BUSY_TURN_BYTES, Pace
from cubbyhole.front.straight import FROM_BYTES, straight_from

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

LIMIT_BYTES = 64 << 20
LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "uvloop": uvloop.new_event_loop,
    "asyncio": asyncio.new_event_loop,
}


def body_of(size_bytes: int) -> bytes:
    """Bytes that are another sequence at each offset of a page."""
    return (bytes(range(251)) * (size_bytes // 251 + 1))[:size_bytes]


class CountingPace(Pace):
    def __init__(self, count: Callable[[], ExchangeStatistics]) -> None:
        super().__init__(count)
        self.pauses = 0
        self.paused = asyncio.Event()

    def pause_s(self, read_bytes: int) -> float:
        pause_s = super().pause_s(read_bytes)
        if pause_s:
            self.pauses += 1
            self.paused.set()
        return pause_s


class Reader:
    """An ASGI application that reads bodies as a lane does, and answers with what it read."""

    def __init__(self) -> None:
        self.straight: list[bool] = []
        self.left = asyncio.Event()
        self.begun = asyncio.Event()
        self.patience_s: float | None = None
        self.wait_for_more = False
        self.waiting = 0
        self.pace = CountingPace(self.count)
        self.transport: Any = None

    def count(self) -> ExchangeStatistics:
        return ExchangeStatistics(waiting=self.waiting)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        first = await receive()
        self.transport = getattr(getattr(receive, "__self__", None), "transport", None)
        body = first["body"]
        self.begun.set()
        while self.wait_for_more and not receive.__self__.body:  # noqa: ASYNC110  (uvicorn has no event for it)
            await asyncio.sleep(0)
        if first["more_body"]:
            self.straight.append(straight_from(receive, scope, LIMIT_BYTES, self.pace) is not None)
            reading = read_body(first, receive, scope, LIMIT_BYTES, bytearray, self.pace)
            try:
                body = await asyncio.wait_for(reading, self.patience_s)
            except ClientLeft:
                self.left.set()
                return
            except asyncio.TimeoutError:
                await answer(send, 408, b"slow")
                return
        await answer(send, 200, b"%d %b" % (len(body), hashlib.sha1(body).hexdigest().encode()))  # noqa: S324


async def answer(send: Any, status: int, body: bytes) -> None:
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def read(body: bytes) -> bytes:
    """What `Reader` answers."""
    return b"%d %b" % (len(body), hashlib.sha1(body).hexdigest().encode())  # noqa: S324


@asynccontextmanager
async def served(app: Any, **options: Any) -> AsyncIterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        config = uvicorn.Config(
            app, **{"http": "httptools", "lifespan": "off", "log_level": "warning", **options}
        )
        server = uvicorn.Server(config)
        server.capture_signals = no_signals  # type: ignore[method-assign]
        running = asyncio.create_task(server.serve(sockets=[listening]))
        try:
            yield listening.getsockname()[1]
        finally:
            server.should_exit = True
            await running


def no_signals() -> Any:
    from contextlib import nullcontext

    return nullcontext()


def run(loop: str, play: Callable[[], Awaitable[None]]) -> None:
    one = LOOPS[loop]()
    try:
        one.run_until_complete(play())
    finally:
        one.close()


def request(body: bytes, more: str = "") -> bytes:
    return (
        f"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n{more}\r\n".encode() + body
    )


async def answered(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    return head.split(b" ", 2)[1], await reader.readexactly(length)


pytestmark = pytest.mark.parametrize("loop", LOOPS)


def test_bodies_of_all_sizes_arrive_whole_one_after_the_other_on_one_connection(loop: str) -> None:
    sizes = [FROM_BYTES - 1, 5, 3 * FROM_BYTES, (10 << 20) + 1, 0, 1 << 20]

    async def play() -> None:
        app = Reader()
        async with served(app) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            for size in sizes:
                body = body_of(size)
                writer.write(request(body))
                assert await answered(reader) == (b"200", read(body)), size
            writer.close()
        assert any(app.straight), "no body came straight"

    run(loop, play)


def test_what_follows_a_body_in_the_same_packet_is_the_next_request(loop: str) -> None:
    large, small = body_of(4 << 20), b"small"

    async def play() -> None:
        app = Reader()
        async with served(app) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request(large) + request(small) + request(large))
            for body in (large, small, large):
                assert await answered(reader) == (b"200", read(body))
            writer.close()
        assert all(app.straight)
        assert len(app.straight) >= 2

    run(loop, play)


def test_a_connection_that_is_to_be_closed_is_closed_after_the_answer(loop: str) -> None:
    body = body_of(2 << 20)

    async def play() -> None:
        async with served(Reader()) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request(body, "Connection: close\r\n"))
            assert await answered(reader) == (b"200", read(body))
            assert await reader.read() == b""
            writer.close()

    run(loop, play)


def test_a_client_that_leaves_in_the_middle_of_its_body_is_noticed(loop: str) -> None:
    async def play() -> None:
        app = Reader()
        async with served(app) as port:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request(body_of(8 << 20))[: 1 << 20])
            await writer.drain()
            await app.begun.wait()
            writer.close()
            await app.left.wait()
        assert app.straight == [True]

    run(loop, play)


def test_a_body_that_nobody_waits_for_any_more_is_dropped_and_the_connection_goes_on(
    loop: str,
) -> None:
    body = body_of(4 << 20)

    async def play() -> None:
        app = Reader()
        app.patience_s = 0.05
        async with served(app) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            wire = request(body)
            writer.write(wire[: 1 << 20])
            assert await answered(reader) == (b"408", b"slow")
            writer.write(wire[1 << 20 :] + request(b"next"))
            assert await answered(reader) == (b"200", read(b"next"))
            writer.close()
        assert app.straight == [True]

    run(loop, play)


def test_what_uvicorn_has_read_ahead_is_part_of_the_body(loop: str) -> None:
    body = body_of(1 << 20)

    async def play() -> None:
        app = Reader()
        app.wait_for_more = True
        async with served(app) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            wire = request(body)
            writer.write(wire[:1000])
            await app.begun.wait()
            writer.write(wire[1000:])
            assert await answered(reader) == (b"200", read(body))
            writer.close()
        assert app.straight == [True]

    run(loop, play)


def test_many_connections_fill_their_own_reservations(loop: str) -> None:
    bodies = [bytes([number]) * ((1 << 20) + number) for number in range(8)]

    async def one(port: int, body: bytes) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(3):
            writer.write(request(body))
            assert await answered(reader) == (b"200", read(body))
        writer.close()

    async def play() -> None:
        app = Reader()
        async with served(app) as port:
            await asyncio.gather(*(one(port, body) for body in bodies))
        assert len(app.straight) == 24
        assert all(app.straight)

    run(loop, play)


def test_a_body_steps_back_while_others_wait_and_arrives_whole(loop: str) -> None:
    body = body_of((4 << 20) + 1)

    async def play() -> None:
        app = Reader()
        app.waiting = 1
        async with served(app) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request(body) + request(b"next"))
            assert await answered(reader) == (b"200", read(body))
            assert await answered(reader) == (b"200", read(b"next"))
            writer.close()
        assert app.straight == [True]
        assert app.pace.pauses >= len(body) // (2 * BUSY_TURN_BYTES) - 1  # turns end where they may

    run(loop, play)


def test_a_connection_that_ends_in_a_pause_is_left_alone(
    loop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pace, "BUSY_PAUSE_S", 0.05)
    raised: list[Any] = []

    async def play() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, told: raised.append(told))
        app = Reader()
        app.waiting = 1
        async with served(app) as port:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request(body_of(8 << 20))[: 4 << 20])
            await app.pace.paused.wait()
            app.transport.abort()
            await app.left.wait()
            await asyncio.sleep(0.1)  # until the pause would have ended
            writer.close()

    run(loop, play)
    assert not raised


def test_a_wrapped_receive_and_another_parser_see_each_message(loop: str) -> None:
    body = body_of(1 << 20)

    class Wrapping(Reader):
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            async def wrapped() -> Any:
                return await receive()

            await super().__call__(scope, wrapped, send)

    async def play() -> None:
        for app, http in ((Wrapping(), "httptools"), (Reader(), "h11")):
            async with served(app, http=http) as port:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(request(body))
                assert await answered(reader) == (b"200", read(body))
                writer.close()
            assert app.straight == [False]

    run(loop, play)
