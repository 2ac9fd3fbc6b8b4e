# SPDX-License-Identifier: Apache-2.0
"""Section 20: health, and what happens when a worker dies."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
import requests
from parity_apis import Anything, SlowSetup, Square, Unhealthy

import cubbyhole as ls
from cubbyhole.testing.serving import serving

if TYPE_CHECKING:
    from collections.abc import Callable


def test_an_unhealthy_api_is_503() -> None:
    with serving(ls.LitServer(Unhealthy())) as served:
        answer = requests.get(f"{served.url}/health", timeout=10)
        assert (answer.status_code, answer.text) == (503, "not ready")
        assert requests.post(f"{served.url}/predict", json={"input": 2}, timeout=10).ok


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_health_that_raises_is_503_and_an_async_one_is_awaited(asynchronous: bool) -> None:
    class Health(Square):
        def health(self) -> Any:
            if not asynchronous:
                raise RuntimeError("sick")

            async def sick() -> bool:
                return False

            return sick()

    from fastapi.testclient import TestClient

    server = ls.LitServer(Health())
    with TestClient(server.app) as client:
        assert client.get("/health").status_code == 503


def test_health_is_503_until_all_workers_are_ready(wait_until: Callable[..., Any]) -> None:
    with serving(ls.LitServer(SlowSetup(), workers_per_device=2), ready=False) as served:
        assert requests.get(f"{served.url}/health", timeout=10).status_code == 503
        wait_until(lambda: requests.get(f"{served.url}/health", timeout=10).ok)


def test_a_workers_death_is_503_at_once_and_it_comes_back(wait_until: Callable[..., Any]) -> None:
    """Defect 2: the client hung for good."""
    with serving(ls.LitServer(Anything())) as served:
        start_s = time.monotonic()
        answer = requests.post(f"{served.url}/predict", json={"die": 1}, timeout=10)
        assert answer.status_code == 503
        assert "Retry-After" in answer.headers
        assert time.monotonic() - start_s < 5
        wait_until(lambda: requests.post(f"{served.url}/predict", json=7, timeout=10).ok)


def test_the_states_of_workers_are_told_in_litserves_words(wait_until: Callable[..., Any]) -> None:
    server = ls.LitServer([Square(api_path="/a/predict"), Square(api_path="/b/predict")])
    server.launch_inference_worker(server.lit_apis[0])
    try:
        server.verify_worker_status()
        states = dict(server.workers_setup_status)
        assert len(states) == 2, "defect 33: both had the key of the last path segment"
        assert set(states.values()) == {"ready"}
    finally:
        server.stop_inference_workers()
