# SPDX-License-Identifier: Apache-2.0
"""What all loops have in common: every way to take requests gives every request its one right answer."""

from __future__ import annotations

import asyncio
import json
import warnings
from typing import TYPE_CHECKING, Any

import pytest
from tests.conftest import poll_until
from tests.unit.worker.desks import Desk

from cubbyhole.api.lit_api import LitAPI
from cubbyhole.core.clock import now_ns
from cubbyhole.core.entries import Failure, Result, ResultMeta
from cubbyhole.core.errors import HTTPError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

MALFORMED = b'{"input": '


def check(value: Any) -> Any:
    """Fail as the tests ask for."""
    if value == "crash":
        raise RuntimeError("a secret")
    if value == "refuse":
        raise HTTPError(418, {"why": "teapot"}, {"X-Why": "tea"})
    return value


class Single(LitAPI):
    batch_sizes: list[int]

    def setup(self, device: Any) -> None:
        self.batch_sizes = []

    def decode_request(self, request: Any) -> Any:
        if request["input"] == "bad decode":
            raise HTTPError(400, "bad decode")
        return request["input"]

    def predict(self, x: Any) -> Any:
        return check(x)

    def encode_response(self, output: Any) -> Any:
        if output == "bad encode":
            raise HTTPError(400, "bad encode")
        return {"output": output}


class Batched(Single):
    def predict(self, x: Any) -> Any:
        self.batch_sizes.append(len(x))
        return [check(value) for value in x]


class Streaming(Single):
    def predict(self, x: Any) -> Iterator[Any]:
        yield check(x)
        yield 2

    def encode_response(self, output: Any) -> Iterator[Any]:
        for value in output:
            if value == "bad encode":
                raise HTTPError(400, "bad encode")
            yield {"output": value}


class BatchedStreaming(Single):
    def predict(self, x: Any) -> Iterator[Any]:
        self.batch_sizes.append(len(x))
        yield [check(value) for value in x]
        yield [2 for _ in x]

    def encode_response(self, output: Any) -> Iterator[Any]:
        for values in output:
            if "bad encode" in values:
                raise HTTPError(400, "bad encode")
            yield [{"output": value} for value in values]


class AsyncSingle(Single):
    async def decode_request(self, request: Any) -> Any:
        return super().decode_request(request)

    async def predict(self, x: Any) -> Any:
        await asyncio.sleep(0)
        return check(x)

    async def encode_response(self, output: Any) -> Any:
        return super().encode_response(output)


class AsyncBatched(Single):
    async def predict(self, x: Any) -> Any:
        self.batch_sizes.append(len(x))
        await asyncio.sleep(0)
        return [check(value) for value in x]


class AsyncStreaming(Single):
    async def predict(self, x: Any) -> AsyncIterator[Any]:
        yield check(x)
        await asyncio.sleep(0)
        yield 2

    async def encode_response(self, output: Any) -> AsyncIterator[Any]:
        async for value in output:
            if value == "bad encode":
                raise HTTPError(400, "bad encode")
            yield {"output": value}


class AsyncStreamingSyncEncode(Single):
    async def predict(self, x: Any) -> AsyncIterator[Any]:
        yield check(x)
        yield 2

    def encode_response(self, output: Any) -> Iterator[Any]:
        for value in output:
            if value == "bad encode":
                raise HTTPError(400, "bad encode")
            yield {"output": value}


class AsyncBatchedStreaming(Single):
    async def predict(self, x: Any) -> AsyncIterator[Any]:
        self.batch_sizes.append(len(x))
        yield [check(value) for value in x]
        yield [2 for _ in x]

    async def encode_response(self, output: Any) -> AsyncIterator[Any]:
        async for values in output:
            if "bad encode" in values:
                raise HTTPError(400, "bad encode")
            yield [{"output": value} for value in values]


KINDS: dict[str, tuple[type[LitAPI], dict[str, Any]]] = {
    "single": (Single, {}),
    "batched": (Batched, {"max_batch_size": 4, "batch_timeout": 0.02}),
    "streaming": (Streaming, {"stream": True}),
    "batched_streaming": (
        BatchedStreaming,
        {"stream": True, "max_batch_size": 4, "batch_timeout": 0.02},
    ),
    "async": (AsyncSingle, {"enable_async": True}),
    "async_batched": (
        AsyncBatched,
        {"enable_async": True, "max_batch_size": 4, "batch_timeout": 0.02},
    ),
    "async_streaming": (AsyncStreaming, {"enable_async": True, "stream": True}),
    "async_streaming_sync_encode": (
        AsyncStreamingSyncEncode,
        {"enable_async": True, "stream": True},
    ),
    "async_batched_streaming": (
        AsyncBatchedStreaming,
        {"enable_async": True, "stream": True, "max_batch_size": 4, "batch_timeout": 0.02},
    ),
}


@pytest.fixture(params=KINDS)
def desk(request: pytest.FixtureRequest) -> Iterator[Desk]:
    kind, options = KINDS[request.param]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        lit_api = kind(**options)
    with Desk(lit_api) as desk:
        yield desk


def outputs(desk: Desk, answer: Any) -> Any:
    """The output of an answer, of its first chunk if it is a stream."""
    if desk.lit_api.stream:
        assert answer.outcome == Result(b"", 200, answer.head[1])
        values = [json.loads(line)["output"] for line in b"".join(answer.chunks).splitlines()]
        assert values[1:] == [2]
        return values[0]
    return answer.json["output"]


def test_every_request_gets_its_own_answer(desk: Desk) -> None:
    ids = [desk.submit({"input": number}) for number in range(40)]
    assert [outputs(desk, desk.answer(i)) for i in ids] == list(range(40))


def test_a_failure_of_one_is_not_the_others_failure(desk: Desk) -> None:
    good, crash, refused, also_good = [
        desk.submit({"input": value}) for value in (1, "crash", "refuse", 3)
    ]
    assert outputs(desk, desk.answer(good)) == 1
    assert outputs(desk, desk.answer(also_good)) == 3
    failure = desk.answer(crash).failure
    assert (failure.status, failure.detail) == (500, "Internal server error")
    assert "a secret" in failure.traceback_text
    failure = desk.answer(refused).failure
    assert (failure.status, failure.detail, failure.headers) == (
        418,
        {"why": "teapot"},
        {"X-Why": "tea"},
    )


def test_errors_in_decoding_are_answered_with_their_status(desk: Desk) -> None:
    ids = [desk.submit({"input": "bad decode"}), desk.submit(MALFORMED), desk.submit({"input": 7})]
    assert desk.answer(ids[0]).failure.detail == "bad decode"
    malformed = desk.answer(ids[1]).failure
    assert (malformed.code, malformed.status) == ("malformed_body", 400)
    assert "line 1, column 11" in malformed.detail
    assert outputs(desk, desk.answer(ids[2])) == 7


def test_an_error_in_encode_before_the_first_chunk_has_its_status(desk: Desk) -> None:
    failure = desk.ask({"input": "bad encode"}).failure
    assert (failure.status, failure.detail) == (400, "bad encode")
    assert outputs(desk, desk.ask({"input": 1})) == 1


def test_a_stopped_loop_finishes_what_it_has_claimed(desk: Desk) -> None:
    ids = [desk.submit({"input": number}) for number in range(8)]
    desk.answer(ids[0])
    desk.stop()
    desk.look()
    states = {snapshot.id: snapshot.state for snapshot in desk.channel.snapshot()}
    assert set(states.values()) <= {"READY"}


def test_an_idle_loop_beats(desk: Desk) -> None:
    before = desk.beats
    poll_until(lambda: desk.beats > before)


def test_a_loop_ends_with_its_channel(desk: Desk) -> None:
    desk.channel.close()
    assert desk.wait_for_end(5)


def test_an_expired_entry_is_not_run(desk: Desk) -> None:
    answer = desk.answer(desk.submit({"input": "crash"}, deadline_ns=now_ns()))
    assert isinstance(answer.outcome, Failure)
    assert answer.failure.code == "expired"


def test_streams_have_no_content_type(desk: Desk) -> None:
    answer = desk.ask({"input": 1})
    if desk.lit_api.stream:
        import msgspec

        assert answer.head is not None
        assert msgspec.msgpack.decode(answer.head[1], type=ResultMeta).content_type is None
    else:
        assert isinstance(answer.outcome, Result)
        assert answer.outcome.meta == b""


def test_batches_are_made(desk: Desk) -> None:
    if desk.lit_api.max_batch_size == 1:
        pytest.skip("no batches here")
    ids = [desk.submit({"input": number}) for number in range(40)]
    for request_id in ids:
        desk.answer(request_id)
    lit_api: Any = desk.lit_api
    assert max(lit_api.batch_sizes) == 4
    assert sum(lit_api.batch_sizes) == 40
