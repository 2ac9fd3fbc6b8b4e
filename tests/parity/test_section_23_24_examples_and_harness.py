# SPDX-License-Identifier: Apache-2.0
"""Sections 23 and 24: the ready-made APIs, and servers inside users' tests."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from fastapi.testclient import TestClient
from parity_apis import Anything, SlowSetup

import cubbyhole as ls
from cubbyhole.test_examples import (
    SimpleBatchedAPI,
    SimpleLitAPI,
    SimpleStreamAPI,
    SimpleTorchAPI,
)
from cubbyhole.utils import is_package_installed, wrap_litserve_start

if TYPE_CHECKING:
    from collections.abc import Callable


def test_a_test_client_talks_to_the_app() -> None:
    server = ls.LitServer(SimpleLitAPI(), accelerator="cpu", devices=1, timeout=10)
    with wrap_litserve_start(server) as wrapped, TestClient(wrapped.app) as client:
        answer = client.post("/predict", json={"input": 4.0})
    assert answer.json() == {"output": 16.0}


async def test_httpx_talks_to_the_app() -> None:
    server = ls.LitServer(SimpleLitAPI(), accelerator="cpu", devices=1, timeout=10)
    with wrap_litserve_start(server) as wrapped:
        async with wrapped.app.router.lifespan_context(wrapped.app):
            transport = httpx.ASGITransport(app=wrapped.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                answer = await client.post("/predict", json={"input": 5.0}, timeout=10)
    assert answer.json() == {"output": 25.0}


def test_health_is_503_right_after_entry_and_ok_later(wait_until: Callable[..., Any]) -> None:
    with wrap_litserve_start(ls.LitServer(SlowSetup())) as server, TestClient(server.app) as client:
        answer = client.get("/health")
        assert (answer.status_code, answer.text) == (503, "not ready")
        wait_until(lambda: client.get("/health").status_code == 200)


def test_a_crash_in_the_harness_is_an_error_not_a_hang() -> None:
    with (
        wrap_litserve_start(ls.LitServer(Anything()), worker_monitor=True) as server,
        TestClient(server.app, raise_server_exceptions=False) as client,
    ):
        assert client.post("/predict", json={"die": 1}).status_code == 503


def test_the_batched_example_batches() -> None:
    server = ls.LitServer(SimpleBatchedAPI(max_batch_size=4, batch_timeout=0.05))
    with (
        wrap_litserve_start(server) as wrapped,
        TestClient(wrapped.app) as client,
        ThreadPoolExecutor(4) as pool,
    ):
        answers = list(
            pool.map(lambda x: client.post("/predict", json={"input": x}).json(), [1.0, 2.0, 3.0])
        )
    assert answers == [{"output": 1.0}, {"output": 4.0}, {"output": 9.0}]


def test_the_streaming_example_streams() -> None:
    server = ls.LitServer(SimpleStreamAPI(stream=True))
    with wrap_litserve_start(server) as wrapped, TestClient(wrapped.app) as client:
        text = client.post("/predict", json={"input": "x"}).text
    assert text == '{"output": "0: x"}\n{"output": "1: x"}\n{"output": "2: x"}\n'


@pytest.mark.skipif(not is_package_installed("torch"), reason="SimpleTorchAPI needs torch")
def test_the_torch_example_runs_its_layer() -> None:
    server = ls.LitServer(SimpleTorchAPI(), accelerator="cpu")
    with wrap_litserve_start(server) as wrapped, TestClient(wrapped.app) as client:
        assert client.post("/predict", json={"input": 4.0}).json() == {"output": 9.0}
