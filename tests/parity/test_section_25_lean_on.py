# SPDX-License-Identifier: Apache-2.0
"""Section 25: behaviour that user code leans on and that no other section's tests show."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import requests
from parity_apis import Anything, DeviceInSetup, NotThreadSafe, Square

import cubbyhole as ls
from cubbyhole.testing.serving import serving

if TYPE_CHECKING:
    from collections.abc import Callable

    from cubbyhole.testing.serving import Served

    Serve = Callable[[Callable[[], ls.LitServer]], Served]


def device() -> ls.LitServer:
    return ls.LitServer(DeviceInSetup(), accelerator="cpu")


def two_workers() -> ls.LitServer:
    return ls.LitServer(Anything(), workers_per_device=2)


def test_device_is_none_inside_setup_and_set_after(serve: Serve) -> None:
    answer = requests.post(f"{serve(device).url}/predict", json=1, timeout=10)
    assert answer.json() == ["cpu", None, "cpu"]


def test_a_worker_takes_one_request_at_a_time() -> None:
    with serving(ls.LitServer(NotThreadSafe())) as served, ThreadPoolExecutor(8) as pool:
        url = f"{served.url}/predict"
        answers = list(pool.map(lambda _: requests.post(url, json=1, timeout=10), range(16)))
    assert {answer.json() for answer in answers} == {1}


def test_workers_of_an_api_share_its_requests(serve: Serve) -> None:
    """A busy worker does not keep a request from an idle one."""
    url = f"{serve(two_workers).url}/predict"
    with ThreadPoolExecutor(5) as pool:
        slow = pool.submit(requests.post, url, json={"sleep_s": 2.0}, timeout=10)
        quick = [pool.submit(requests.post, url, json={"who": 1}, timeout=1.5) for _ in range(4)]
        pids = {answer.result().json()["pid"] for answer in quick}
        assert not slow.done()
        assert slow.result().ok
    assert os.getpid() not in pids


def test_the_app_takes_routes_and_mounts_before_it_runs() -> None:
    server = ls.LitServer(Square())

    @server.app.get("/extra")
    def extra() -> dict[str, int]:
        return {"extra": 1}

    async def mounted(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"mounted"})

    server.app.mount("/mounted", mounted)
    with serving(server) as served:
        assert requests.get(f"{served.url}/extra", timeout=10).json() == {"extra": 1}
        assert requests.get(f"{served.url}/mounted/", timeout=10).text == "mounted"
        assert requests.post(f"{served.url}/predict", json={"input": 2}, timeout=10).ok


def test_positional_arguments_are_litserves() -> None:
    server = ls.LitServer(Square(), "cpu", 1, 2, 5)
    assert server.devices == ["cpu"]
    assert server.workers_per_device == 2
    assert server.timeout == 5
