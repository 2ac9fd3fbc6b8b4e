# SPDX-License-Identifier: Apache-2.0
"""Sections 9 and 10: asynchronous APIs, and the context of a request."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
import requests
from parity_apis import AsyncSleep, AsyncStream, BatchedContext, Square, WithContext

import cubbyhole as ls

if TYPE_CHECKING:
    from collections.abc import Callable

    from cubbyhole.testing.serving import Served

    Serve = Callable[[Callable[[], ls.LitServer]], Served]


def asleep() -> ls.LitServer:
    return ls.LitServer(AsyncSleep(enable_async=True))


def async_stream() -> ls.LitServer:
    return ls.LitServer(AsyncStream(enable_async=True, stream=True))


def contexts() -> ls.LitServer:
    return ls.LitServer([WithContext(), BatchedContext(api_path="/batched", max_batch_size=2)])


def post(url: str, body: Any) -> Any:
    return requests.post(url, json=body, timeout=15).json()


def test_an_async_worker_runs_its_requests_together(serve: Serve) -> None:
    url = f"{serve(asleep).url}/predict"
    start_s = time.monotonic()
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: post(url, {"sleep_s": 0.5}), range(20)))
    assert answers == [{"slept_s": 0.5}] * 20
    assert time.monotonic() - start_s < 5, "one after the other it would be 10 s"


def test_an_async_generator_streams(serve: Serve) -> None:
    answer = requests.post(f"{serve(async_stream).url}/predict", json={"count": 2}, timeout=10)
    assert answer.text == '{"n": 0}\n{"n": 1}\n'


def test_enable_async_wants_an_async_predict() -> None:
    text = "Async validation failed:\n- predict must be an async generator or async function"
    with pytest.raises(ValueError, match=text):
        Square(enable_async=True)


def test_sync_hooks_are_taken_with_a_warning() -> None:
    class Mixed(AsyncSleep):
        def decode_request(self, request: Any) -> Any:
            return request

    with pytest.warns(UserWarning, match="decode_request should be an async function or async"):
        Mixed(enable_async=True)


def test_async_batching_is_refused() -> None:
    with pytest.raises(ValueError, match="Async batching is not supported"):
        ls.LitServer(AsyncSleep(enable_async=True, max_batch_size=2))


def test_the_context_is_one_dict_for_one_request(serve: Serve) -> None:
    answer = post(f"{serve(contexts).url}/predict", {"input": 4})
    assert answer == {"decoded": 4, "predicted": 5}
    assert post(f"{serve(contexts).url}/predict", {"input": 7})["decoded"] == 7


def test_a_batched_predict_gets_the_list_of_contexts(serve: Serve) -> None:
    assert post(f"{serve(contexts).url}/batched", {"input": 1}) == {"mine": 1, "seen": True}
