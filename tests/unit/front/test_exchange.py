# SPDX-License-Identifier: Apache-2.0
"""Waiters: deadlines, departures, full channels, slow clients."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from tests.unit.front.house import EchoAPI, House, StreamAPI, echo

import cubbyhole as ls
from cubbyhole.channels.base import ChannelSettings
from cubbyhole.core.clock import NEVER_NS, now_ns
from cubbyhole.core.entries import Chunk, Collected, Failure, RequestEntry, Result
from cubbyhole.core.errors import ChannelFull
from cubbyhole.front.exchange import Exchange
from cubbyhole.testing.memory_channel import MemoryChannel

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from cubbyhole.core.entries import ClaimedEntry


@pytest.fixture
async def channel() -> AsyncIterator[MemoryChannel]:
    made = MemoryChannel(ChannelSettings(slots=2))
    yield made
    made.close()


@contextlib.contextmanager
def exchange_of(channel: MemoryChannel, port: Any = None) -> Iterator[Exchange]:
    exchange = Exchange(port or channel.front(0), 0, asyncio.get_running_loop())
    exchange.open()
    yield exchange
    exchange.close()


def entry(exchange: Exchange, deadline_ns: int = NEVER_NS, body: bytes = b"x") -> RequestEntry:
    return RequestEntry(next(exchange.ids), 0, body, deadline_ns=deadline_ns, received_ns=now_ns())


def work(channel: MemoryChannel, outcome: Any) -> None:
    port = channel.worker(0, 0)
    for claimed in port.claim(8, 1.0):
        port.publish(claimed, outcome)
    port.close()


async def test_each_waiter_gets_its_own_answer(channel: MemoryChannel) -> None:
    with exchange_of(channel) as exchange:
        waiters = [exchange.submit(entry(exchange, body=b"%d" % n)) for n in range(2)]
        port = channel.worker(0, 0)
        for claimed in reversed(port.claim(2, 1.0)):
            port.publish(claimed, Result(bytes(claimed.body) * 2))
        answers = [(await waiter.future).outcome for waiter in waiters]
        assert [answer.body for answer in answers] == [b"00", b"11"]  # type: ignore[union-attr]
        assert exchange.statistics().waiting == 0
        assert exchange.statistics().answered_total == 2
        port.close()


async def test_the_waiter_is_there_before_the_answer_can_come(channel: MemoryChannel) -> None:
    """A channel may answer while `submit` still runs."""
    inner = channel.front(0)

    class Instant:
        def submit(self, entry: RequestEntry) -> None:
            inner.submit(entry)
            work(channel, Result(b"early"))
            exchange._collect()

        def __getattr__(self, name: str) -> Any:
            return getattr(inner, name)

    with exchange_of(channel, Instant()) as exchange:
        waiter = exchange.submit(entry(exchange))
        assert waiter.future.done()


async def test_a_full_channel_leaves_no_waiter(channel: MemoryChannel) -> None:
    with exchange_of(channel) as exchange:
        for _ in range(2):
            exchange.submit(entry(exchange))
        with pytest.raises(ChannelFull):
            exchange.submit(entry(exchange))
        counted = exchange.statistics()
        assert (counted.waiting, counted.refused_total) == (2, 1)


async def test_a_deadline_covers_running(channel: MemoryChannel) -> None:
    with exchange_of(channel) as exchange:
        waiter = exchange.submit(entry(exchange, deadline_ns=now_ns() + 30_000_000))
        port = channel.worker(0, 0)
        (claimed,) = port.claim(1, 1.0)  # it runs, and is never answered
        failure = (await waiter.future).outcome
        assert isinstance(failure, Failure)
        assert (failure.status, failure.detail) == (504, "Request timed out")
        assert claimed.cancelled
        assert exchange.statistics().expired_total == 1
        port.close()


async def test_one_entry_that_cannot_be_delivered_does_not_stop_the_pump(
    channel: MemoryChannel,
) -> None:
    inner = channel.front(0)

    class Odd:
        def collect(self) -> list[Any]:
            return [Collected(id, None) for id in [12345]] + inner.collect()  # noqa: A001

        def take_chunks(self, request_id: int) -> Any:
            raise KeyError(request_id)

        def __getattr__(self, name: str) -> Any:
            return getattr(inner, name)

    with exchange_of(channel, Odd()) as exchange:
        waiter = exchange.submit(entry(exchange))
        work(channel, Result(b"fine"))
        assert (await waiter.future).outcome.body == b"fine"  # type: ignore[union-attr]


async def test_a_collect_that_fails_is_tried_again(channel: MemoryChannel) -> None:
    inner = channel.front(0)
    failures = iter([OSError("first"), OSError("second")])

    class Flaky:
        def collect(self) -> list[Any]:
            error = next(failures, None)
            if error is not None:
                raise error
            return inner.collect()

        def __getattr__(self, name: str) -> Any:
            return getattr(inner, name)

    with exchange_of(channel, Flaky()) as exchange:
        waiter = exchange.submit(entry(exchange))
        work(channel, Result(b"fine"))
        assert (await waiter.future).outcome.body == b"fine"  # type: ignore[union-attr]


async def test_a_lost_ring_is_made_good_by_the_sweep(channel: MemoryChannel) -> None:
    with exchange_of(channel) as exchange:
        asyncio.get_running_loop().remove_reader(exchange._port.fileno())
        waiter = exchange.submit(entry(exchange))
        work(channel, Result(b"late"))
        assert (await waiter.future).outcome.body == b"late"  # type: ignore[union-attr]


async def test_closing_answers_whoever_waits(channel: MemoryChannel) -> None:
    with exchange_of(channel) as exchange:
        waiter = exchange.submit(entry(exchange))
    failure = (await waiter.future).outcome
    assert isinstance(failure, Failure)
    assert failure.status == 503


def ticks(exchange: Exchange) -> bool:
    return exchange._timer is not None


async def test_nothing_ticks_while_nobody_waits(channel: MemoryChannel) -> None:
    with exchange_of(channel) as exchange:
        assert not ticks(exchange)
        waiter = exchange.submit(entry(exchange))
        work(channel, Result(b"1"))
        await waiter.future
        while ticks(exchange):  # noqa: ASYNC110  (the sweep that finds nobody is the last)
            await asyncio.sleep(0.01)


# Over HTTP.


async def test_a_timeout_is_504_while_the_worker_hangs() -> None:
    release = threading.Event()

    def hang(entry: ClaimedEntry) -> Iterator[Result]:
        release.wait()
        yield Result(b"1")

    server = ls.LitServer(EchoAPI(), timeout=0.1)
    with House(server, hang) as house, house.over_http() as url:
        async with httpx.AsyncClient(base_url=url) as client:
            first, second = await asyncio.gather(
                *(client.post("/predict", json=1) for _ in range(2))
            )
        release.set()
    assert [first.status_code, second.status_code] == [504, 504]
    assert first.json() == {"detail": "Request timed out"}


async def test_a_full_server_says_503_at_once(wait_until: Callable[..., Any]) -> None:
    release = threading.Event()

    def hang(entry: ClaimedEntry) -> Iterator[Result]:
        release.wait()
        yield Result(b"1")

    with House(ls.LitServer(EchoAPI(), slots=1), hang) as house, house.over_http() as url:
        async with httpx.AsyncClient(base_url=url) as client:
            first = asyncio.create_task(client.post("/predict", json=1))
            while not house.claimed:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
            refused = await client.post("/predict", json=1)
            release.set()
            assert (await first).status_code == 200
            assert (await client.post("/predict", json=1)).status_code == 200
    assert refused.status_code == 503
    assert refused.headers["retry-after"] == "1"


@pytest.mark.parametrize("middlewares", [None, "slow"])
async def test_a_client_that_leaves_cancels_its_entry(
    middlewares: Any, wait_until: Callable[..., Any]
) -> None:
    release = threading.Event()

    def hang(entry: ClaimedEntry) -> Iterator[Result]:
        release.wait(10)
        yield Result(b"1")

    from tests.unit.front.test_lanes import server_for

    server = server_for("slow" if middlewares else "fast")
    with House(server, hang) as house, house.over_http() as url:
        async with httpx.AsyncClient(base_url=url) as client:
            tasks = [asyncio.create_task(client.post("/predict", json=n)) for n in range(2)]
            exchange = server.desk.exchange
            assert exchange is not None
            while len(house.claimed) < 1 or exchange.statistics().submitted_total < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        def all_left() -> bool:
            exchange = server.desk.exchange
            return exchange is not None and exchange.statistics().left_total == 2

        await asyncio.to_thread(wait_until, all_left)
        assert house.claimed[0].cancelled
        release.set()
        assert len(house.claimed) == 1, "the queued one was run for nobody"


async def test_a_slow_client_stops_its_own_writer_only(wait_until: Callable[..., Any]) -> None:
    written = 0
    chunk = b"x" * 65536

    def flood(entry: ClaimedEntry) -> Iterator[Chunk | Result]:
        nonlocal written
        if bytes(entry.body) == b"0":
            for _ in range(2000):
                written += 1
                yield Chunk(chunk)
        yield Result(b"done")

    server = ls.LitServer(StreamAPI(stream=True))
    with House(server, flood, workers=2) as house, house.over_http() as url:
        host, port = url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port), limit=1024)
        writer.write(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n0")
        await reader.readexactly(100)  # and then no more

        def stopped() -> bool:
            before = written
            return before > 0 and not threading.Event().wait(0.3) and before == written

        await asyncio.to_thread(wait_until, stopped)
        assert written < 400, "the whole stream was buffered"
        async with httpx.AsyncClient(base_url=url) as client:
            assert (await client.post("/predict", content=b"1")).text == "done"
        writer.close()  # the client leaves, and its generator is told
        assert await asyncio.to_thread(house.cancelled.wait, 10)


async def test_in_process_clients_are_served_through_the_lifespan() -> None:
    with House(ls.LitServer(EchoAPI()), echo) as house:
        async with house.client() as client:
            assert (await client.post("/predict", json={"a": 1})).json() == {"a": 1}
            assert (await client.get("/health")).text == "ok"
        assert house.server.desk.exchange is None
