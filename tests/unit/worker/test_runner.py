# SPDX-License-Identifier: Apache-2.0
"""Hooks: what they get, which callbacks are heard and when, what becomes of what they raise."""

from __future__ import annotations

import asyncio
import logging
import math
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from tests.conftest import poll_until
from tests.unit.worker.desks import Desk

from cubbyhole.api.callbacks import Callback
from cubbyhole.api.lit_api import LitAPI
from cubbyhole.core.clock import NEVER_NS, now_ns
from cubbyhole.core.errors import HTTPError
from cubbyhole.worker.runner import Runner

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


class Recorder(Callback):
    def __init__(self) -> None:
        self.events: list[str] = []

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("on_"):
            return lambda lit_api: self.events.append(name.removeprefix("on_"))
        return super().__getattribute__(name)


class Echo(LitAPI):
    def predict(self, x: Any) -> Any:
        return x


class EchoBatch(LitAPI):
    def predict(self, x: Any) -> Any:
        return list(x)


class EchoStream(LitAPI):
    def predict(self, x: Any) -> Iterator[Any]:
        yield str(x)

    def encode_response(self, output: Any) -> Iterator[Any]:
        yield from output


class EchoAsync(LitAPI):
    async def predict(self, x: Any) -> Any:
        return x


class EchoAsyncStream(LitAPI):
    async def predict(self, x: Any) -> AsyncIterator[Any]:
        yield str(x)

    async def encode_response(self, output: Any) -> AsyncIterator[Any]:
        async for value in output:
            yield value


WHOLE = [
    "before_decode_request",
    "after_decode_request",
    "before_predict",
    "after_predict",
    "before_encode_response",
    "after_encode_response",
]
STREAM = [*WHOLE[:3], "before_encode_response", "after_predict", "after_encode_response"]


@pytest.mark.parametrize(
    ("kind", "options", "events"),
    [
        (Echo, {}, WHOLE),
        (EchoBatch, {"max_batch_size": 2}, WHOLE),
        (EchoStream, {"stream": True}, STREAM),
        (EchoAsync, {"enable_async": True}, WHOLE),
        (EchoAsyncStream, {"enable_async": True, "stream": True}, STREAM),
    ],
)
def test_every_event_is_heard_once_and_in_order(
    kind: type[LitAPI], options: dict[str, Any], events: list[str]
) -> None:
    recorder = Recorder()
    with Desk(kind(**options), [recorder]) as desk:
        desk.ask(1)
        poll_until(lambda: recorder.events == events)


def test_context_is_one_dict_for_all_hooks_of_a_request() -> None:
    class Contextual(LitAPI):
        def decode_request(self, request: Any, context: dict[str, Any]) -> Any:
            context["n"] = request
            return request

        def predict(self, x: Any, context: dict[str, Any]) -> Any:
            return x + context["n"]

        def encode_response(self, output: Any, context: dict[str, Any]) -> Any:
            return [output, context]

    with Desk(Contextual()) as desk:
        assert desk.ask(2).json == [4, {"n": 2}]
        assert desk.ask(3).json == [6, {"n": 3}]


def test_a_batched_predict_gets_the_list_of_contexts() -> None:
    class Contextual(LitAPI):
        def decode_request(self, request: Any, context: dict[str, Any]) -> Any:
            context["n"] = request
            return request

        def predict(self, x: Any, context: list[dict[str, Any]]) -> Any:
            for own in context:
                own["size"] = len(context)
            return x

        def encode_response(self, output: Any, context: dict[str, Any]) -> Any:
            return [output, context["n"], context["size"]]

    with Desk(Contextual(max_batch_size=2, batch_timeout=5.0)) as desk:
        ids = desk.submit(1), desk.submit(2)
        assert [desk.answer(i).json for i in ids] == [[1, 1, 2], [2, 2, 2]]


def test_user_code_sees_that_nobody_waits() -> None:
    class Patient(LitAPI):
        def setup(self, device: Any) -> None:
            self.started, self.saw = threading.Event(), threading.Event()

        def predict(self, x: Any, cancelled: Any) -> Any:
            self.started.set()
            poll_until(cancelled)
            self.saw.set()
            return x

    api = Patient()
    with Desk(api) as desk:
        request_id = desk.submit(1)
        assert api.started.wait(5)
        desk.front.cancel(request_id)
        assert api.saw.wait(5)


@pytest.mark.parametrize("batch", [1, 2])
def test_user_code_sees_when_its_answer_is_too_late(batch: int) -> None:
    seen: list[
        float
    ] = []  # asserting in predict would not do: what fails in a batch runs again alone

    class Punctual(LitAPI):
        def decode_request(self, request: Any, deadline: float) -> Any:
            return [request, deadline]

        def predict(self, x: Any, deadline: float, cancelled: Any) -> Any:
            assert not cancelled()
            seen.append(deadline)
            return x

    api = Punctual(max_batch_size=batch, batch_timeout=5.0 if batch > 1 else 0.0)
    deadlines_ns = [now_ns() + 9_000_000_000, now_ns() + 8_000_000_000][:batch]
    with Desk(api) as desk:
        ids = [desk.submit(1, deadline_ns=end_ns) for end_ns in deadlines_ns]
        told = [desk.answer(i).json[1] for i in ids]
    assert told == [end_ns / 1e9 for end_ns in deadlines_ns]
    assert seen == [min(deadlines_ns) / 1e9]


def test_without_a_deadline_user_code_sees_none() -> None:
    class Patient(LitAPI):
        def predict(self, x: Any, deadline: float) -> Any:
            return deadline == math.inf

    with Desk(Patient()) as desk:
        assert desk.answer(desk.submit(1, deadline_ns=NEVER_NS)).json is True


def test_an_asynchronous_request_that_nobody_waits_for_is_cancelled() -> None:
    class Patient(LitAPI):
        def setup(self, device: Any) -> None:
            self.started, self.ended = threading.Event(), threading.Event()

        async def predict(self, x: Any) -> Any:
            self.started.set()
            try:
                await asyncio.sleep(3600)
            finally:
                self.ended.set()

    api = Patient(enable_async=True)
    with Desk(api) as desk:
        request_id = desk.submit(1)
        assert api.started.wait(5)
        desk.front.cancel(request_id)
        assert api.ended.wait(5)
        poll_until(lambda: not desk.channel.snapshot())


def test_asynchronous_requests_run_at_the_same_time() -> None:
    class Meeting(LitAPI):
        def setup(self, device: Any) -> None:
            self.present = 0

        async def predict(self, x: Any) -> Any:
            self.present += 1
            while self.present < 50:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            return x

    with Desk(Meeting(enable_async=True)) as desk:
        ids = [desk.submit(n) for n in range(50)]
        assert [desk.answer(i).json for i in ids] == list(range(50))


def test_synchronous_ends_of_an_asynchronous_api_run_in_a_thread() -> None:
    class Mixed(LitAPI):
        def decode_request(self, request: Any) -> Any:
            return threading.get_ident()

        async def predict(self, x: Any) -> Any:
            return [x, threading.get_ident()]

    with pytest.warns(UserWarning, match="decode_request should be"):
        api = Mixed(enable_async=True)
    with Desk(api) as desk:
        decoder, predictor = desk.ask(1).json
        assert decoder != predictor


def test_a_failure_is_logged_once_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    class Failing(LitAPI):
        def predict(self, x: Any) -> Any:
            raise RuntimeError("why it failed")

    with Desk(Failing()) as desk:
        failure = desk.ask(1).failure
    records = [r for r in caplog.records if r.levelno >= logging.ERROR]
    assert len(records) == 1
    assert records[0].exc_info is not None
    assert "why it failed" in failure.traceback_text
    assert "in predict" in failure.traceback_text
    assert (failure.code, failure.message) == ("predict_failed", "RuntimeError: why it failed")


def test_an_answer_to_a_client_is_no_error_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    from fastapi import HTTPException

    class Refusing(LitAPI):
        def predict(self, x: Any) -> Any:
            raise HTTPException(429, headers={"Retry-After": "3"})

    with Desk(Refusing()) as desk:
        failure = desk.ask(1).failure
    assert (failure.code, failure.status, failure.detail, failure.headers) == (
        "http_exception",
        429,
        "Too Many Requests",
        {"Retry-After": "3"},
    )
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]


def test_a_detail_of_any_kind_is_made_plain() -> None:
    class Odd(LitAPI):
        def predict(self, x: Any) -> Any:
            raise HTTPError(400, {"array": np.arange(2), "when": {1}})

    with Desk(Odd()) as desk:
        assert desk.ask(1).failure.detail == {"array": [0, 1], "when": [1]}


def test_an_exception_that_does_not_pickle_is_answered_like_any() -> None:
    class Locked(LitAPI):
        def predict(self, x: Any) -> Any:
            raise RuntimeError(threading.Lock())

    with Desk(Locked()) as desk:
        assert desk.ask(1).failure.status == 500
        assert desk.ask(1).failure.status == 500


def test_a_body_can_be_taken_as_a_view_without_a_copy() -> None:
    class Raw(LitAPI):
        def decode_request(self, body: memoryview) -> Any:
            return np.frombuffer(body, np.float32)

        def predict(self, x: Any) -> Any:
            return x.base is not None and not x.flags.writeable

    with Desk(Raw()) as desk:
        request_id = desk.submit(np.arange(4, dtype=np.float32).tobytes())
        assert desk.answer(request_id).json is True


def test_an_answer_too_large_for_the_channel_says_so() -> None:
    class Large(LitAPI):
        def predict(self, x: Any) -> Any:
            return bytes(x)

    with Desk(Large(), arena_bytes=1000) as desk:
        failure = desk.ask(1001).failure
        assert (failure.code, failure.status) == ("entry_too_large", 500)
        assert desk.ask(10).outcome.status == 200


def test_a_predict_that_is_async_without_saying_so_is_answered_with_500() -> None:
    class Forgotten(LitAPI):
        async def predict(self, x: Any) -> Any:
            return x

    with Desk(Forgotten()) as desk:
        failure = desk.ask(1).failure
        assert failure.status == 500
        assert "enable_async=True" in failure.message


def test_the_plain_way_is_taken_only_where_nothing_else_is_asked_for() -> None:
    class Contextual(Echo):
        def predict(self, x: Any, context: Any = None) -> Any:
            return x

    def is_plain(api: LitAPI, callbacks: Any = None) -> bool:
        runner = Runner(api, callbacks)
        return runner.answer != runner._answer

    assert is_plain(Echo())
    assert not is_plain(Contextual())
    assert not is_plain(Echo(), [Recorder()])
