# SPDX-License-Identifier: Apache-2.0
"""Streams: what clients see when they are slow, gone, or when the generator fails on the way."""

from __future__ import annotations

import threading
import warnings
from typing import TYPE_CHECKING, Any

import pytest
from tests.conftest import poll_until
from tests.unit.worker.desks import Desk

from cubbyhole.api.lit_api import LitAPI
from cubbyhole.core.entries import Failure
from cubbyhole.core.errors import HTTPError
from cubbyhole.worker import shared_streams

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

CHUNK = "x" * 100


class Endless(LitAPI):
    """Yields until it is closed, and says so; until a test that has failed says that it is enough."""

    def setup(self, device: Any) -> None:
        self.yielded = 0
        self.closed = threading.Event()
        self.enough = threading.Event()

    def predict(self, x: Any) -> Iterator[str]:
        try:
            while not self.enough.is_set():
                self.yielded += 1
                yield CHUNK
        finally:
            self.closed.set()

    def encode_response(self, output: Any) -> Iterator[Any]:
        yield from output


class EndlessAsync(Endless):
    async def predict(self, x: Any) -> AsyncIterator[str]:  # type: ignore[override]
        try:
            while not self.enough.is_set():
                self.yielded += 1
                yield CHUNK
        finally:
            self.closed.set()

    async def encode_response(self, output: Any) -> AsyncIterator[Any]:  # type: ignore[override]
        async for value in output:
            yield value


class EndlessBatch(Endless):
    def predict(self, x: Any) -> Iterator[Any]:
        try:
            while not self.enough.is_set():
                self.yielded += 1
                yield [f"{value}{CHUNK}" for value in x]
        finally:
            self.closed.set()


class EndlessAsyncBatch(EndlessAsync):
    async def predict(self, x: Any) -> AsyncIterator[Any]:  # type: ignore[override]
        try:
            while not self.enough.is_set():
                self.yielded += 1
                yield [f"{value}{CHUNK}" for value in x]
        finally:
            self.closed.set()


KINDS: dict[str, tuple[type[Endless], dict[str, Any]]] = {
    "sync": (Endless, {}),
    "async": (EndlessAsync, {"enable_async": True}),
    "batch": (EndlessBatch, {"max_batch_size": 2}),
    "async_batch": (EndlessAsyncBatch, {"max_batch_size": 2, "enable_async": True}),
}


def make(kind: str, **options: Any) -> Endless:
    api, more = KINDS[kind]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return api(stream=True, **more, **options)


@pytest.mark.parametrize("kind", KINDS)
def test_the_generator_of_a_client_that_left_is_closed(kind: str) -> None:
    api = make(kind)
    with Desk(api, credit_bytes=1000) as desk:
        request_id = desk.submit(1)
        poll_until(lambda: desk.so_far(request_id))
        assert not desk.front.cancel(request_id)
        try:
            assert api.closed.wait(5)
        finally:
            api.enough.set()
        poll_until(lambda: not desk.channel.snapshot())


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_slow_client_slows_its_generator(kind: str) -> None:
    api = make(kind)
    with Desk(api, credit_bytes=1000) as desk:
        request_id = desk.submit(1)
        poll_until(lambda: api.yielded >= 11)
        before = desk.beats
        try:
            poll_until(lambda: desk.beats > before + 2)  # it goes on to beat while it waits
            assert api.yielded == 11  # ten chunks fit, one waits
            desk.look()
            poll_until(lambda: api.yielded == 21)
        finally:
            api.enough.set()
            desk.front.cancel(request_id)


@pytest.mark.parametrize("kind", ["batch", "async_batch"])
def test_a_slow_client_does_not_slow_the_others_of_its_batch(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It gets a backlog; when that is full the batch waits a little, then the client is given up."""
    monkeypatch.setattr(shared_streams, "BACKLOG_BYTES", 10_000)
    monkeypatch.setattr(shared_streams, "STUCK_S", 0.1)
    api = make(kind, batch_timeout=5.0)
    with Desk(api, credit_bytes=1000) as desk:
        slow, fast = desk.submit("slow"), desk.submit("fast")
        taken_bytes = 0

        def fast_goes_on() -> bool:
            nonlocal taken_bytes
            desk.front.collect()
            taken_bytes += sum(map(len, desk.front.take_chunks(fast).chunks))
            return taken_bytes > 100_000

        poll_until(fast_goes_on)
        desk.front.cancel(fast)
        assert api.closed.wait(5)
        first = desk.front.take_chunks(slow)
        assert first.chunks
        assert isinstance(first.end, Failure)
        assert first.end.code == "slow_client"


class Failing(LitAPI):
    def predict(self, x: Any) -> Iterator[Any]:
        yield "one"
        raise HTTPError(400, "too late") if x == "http" else RuntimeError("secret")

    def encode_response(self, output: Any) -> Iterator[Any]:
        yield from output


class FailingAsync(LitAPI):
    async def predict(self, x: Any) -> AsyncIterator[Any]:
        yield "one"
        raise HTTPError(400, "too late") if x == "http" else RuntimeError("secret")

    async def encode_response(self, output: Any) -> AsyncIterator[Any]:
        async for value in output:
            yield value


class FailingBatch(LitAPI):
    def predict(self, x: Any) -> Iterator[Any]:
        yield ["one" for _ in x]
        raise RuntimeError("secret")

    def encode_response(self, output: Any) -> Iterator[Any]:
        yield from output


@pytest.mark.parametrize(
    ("kind", "options"),
    [(Failing, {}), (FailingAsync, {"enable_async": True}), (FailingBatch, {"max_batch_size": 2})],
)
def test_a_failure_on_the_way_is_no_clean_end(kind: type[LitAPI], options: dict[str, Any]) -> None:
    with Desk(kind(stream=True, **options)) as desk:
        answer = desk.ask("x")
        assert answer.chunks == [b"one"]
        assert (answer.failure.status, answer.failure.detail) == (500, "Internal server error")
        assert "secret" in answer.failure.traceback_text


def test_an_empty_stream_is_a_clean_answer() -> None:
    class Empty(LitAPI):
        def predict(self, x: Any) -> Iterator[Any]:
            yield from ()

        def encode_response(self, output: Any) -> Iterator[Any]:
            yield from output

    with Desk(Empty(stream=True)) as desk:
        answer = desk.ask(1)
        assert answer.outcome.status == 200
        assert answer.chunks == []


def test_steps_of_the_wrong_length_fail_all() -> None:
    class Wrong(LitAPI):
        def predict(self, x: Any) -> Iterator[Any]:
            yield [1, 2, 3]

        def encode_response(self, output: Any) -> Iterator[Any]:
            yield from output

    with Desk(Wrong(stream=True, max_batch_size=2)) as desk:
        assert desk.ask(1).failure.detail == "Batch size mismatch"


def test_none_sends_nothing_and_an_exception_fails_its_item_only() -> None:
    class Mixed(LitAPI):
        def predict(self, x: Any) -> Iterator[Any]:
            yield ["a", None]
            yield [HTTPError(400, "no"), "b"]
            yield ["dropped", "c"]

        def encode_response(self, output: Any) -> Iterator[Any]:
            yield from output

    with Desk(Mixed(stream=True, max_batch_size=2, batch_timeout=5.0)) as desk:
        first, second = desk.submit(1), desk.submit(2)
        answer = desk.answer(first)
        assert (answer.chunks, answer.failure.detail) == ([b"a"], "no")
        answer = desk.answer(second)
        assert (b"".join(answer.chunks), answer.outcome.status) == (b"bc", 200)


def test_a_users_format_of_chunks_is_used() -> None:
    class Events(LitAPI):
        def predict(self, x: Any) -> Iterator[Any]:
            yield from range(2)

        def encode_response(self, output: Any) -> Iterator[Any]:
            yield from output

        def format_encoded_response(self, data: Any) -> Any:
            return f"data: {data}\n\n"

    with Desk(Events(stream=True)) as desk:
        assert b"".join(desk.ask(1).chunks) == b"data: 0\n\ndata: 1\n\n"
