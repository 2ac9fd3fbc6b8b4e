# SPDX-License-Identifier: Apache-2.0
"""DELETE /requests/{id}, with several fronts."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

import httpx
from tests.integration.processes import SERVERS

from cubbyhole.testing.serving import serving

if TYPE_CHECKING:
    from pathlib import Path

WaitUntil = Callable[..., object]


def ask(url: str, name: str, body: object, answers: dict[str, int]) -> threading.Thread:
    def run() -> None:
        headers = {"X-Request-ID": name}
        answers[name] = httpx.post(
            url + "/predict", json=body, headers=headers, timeout=15
        ).status_code

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_a_request_is_taken_back_whichever_front_has_it(
    tmp_path: Path, wait_until: WaitUntil
) -> None:
    """Many connections, each to whichever front the kernel chooses: with two, half of the deletes come to the other one."""
    answers: dict[str, int] = {}
    with serving(f"{SERVERS}:with_withdrawal", arguments=["--fronts", "2"]) as server:
        begun = [tmp_path / f"begun{number}" for number in range(2)]
        threads = [
            ask(server.url, f"runs{n}", {"input": 1, "sleep_s": 2, "begun": str(path)}, answers)
            for n, path in enumerate(begun)
        ]
        wait_until(lambda: all(path.exists() for path in begun))
        never = [tmp_path / f"never{number}" for number in range(12)]
        for n, path in enumerate(never):
            threads.append(ask(server.url, f"w{n}", {"input": 1, "begun": str(path)}, answers))

        def all_taken_back() -> bool:
            for number in range(12):
                assert httpx.delete(f"{server.url}/requests/w{number}").status_code == 202
            return all(f"w{number}" in answers for number in range(12))

        wait_until(all_taken_back, timeout_s=8)
        for thread in threads:
            thread.join()
    assert {answers[f"w{number}"] for number in range(12)} == {499}
    assert [answers["runs0"], answers["runs1"]] == [200, 200]
    assert not any(path.exists() for path in never)
