# SPDX-License-Identifier: Apache-2.0
"""DELETE /requests/{id}, with several fronts."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import httpx

from cubbyhole.seen.attached import attach
from cubbyhole.testing.serving import serving

OPERATED = Path(__file__).with_name("operated.py")
WaitUntil = Callable[..., object]


def ask(url: str, name: str, body: object, answers: dict[str, int]) -> threading.Thread:
    def run() -> None:
        headers = {"X-Request-ID": name}
        answers[name] = httpx.post(
            url + "/predict", json=body, headers=headers, timeout=45
        ).status_code

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_a_request_is_taken_back_whichever_front_has_it(
    tmp_path: Path, wait_until: WaitUntil
) -> None:
    """Many connections, each to whichever front the kernel chooses: with two, half of the deletes come to the other one."""
    answers: dict[str, int] = {}
    release = tmp_path / "release"
    hold = {"input": 1, "until": str(release)}
    arguments = ["--fronts", "2"]
    with (
        serving(f"{OPERATED}:withdrawing", arguments=arguments) as server,
        attach(server.pid) as seen,
    ):
        begun = [tmp_path / f"begun{number}" for number in range(2)]
        threads = [
            ask(server.url, f"runs{n}", hold | {"begun": str(path)}, answers)
            for n, path in enumerate(begun)
        ]
        wait_until(lambda: all(path.exists() for path in begun))
        never = [tmp_path / f"never{number}" for number in range(12)]
        for n, path in enumerate(never):
            threads.append(ask(server.url, f"w{n}", {"input": 1, "begun": str(path)}, answers))
        wait_until(lambda: sum(one.state == "READY" for one in seen.entries()) == 12)
        for number in range(12):  # once each: a second one might come to the front that has it
            assert httpx.delete(f"{server.url}/requests/w{number}").status_code == 202
        wait_until(lambda: len(answers) == 12)
        release.touch()
        for thread in threads:
            thread.join()
    assert {answers[f"w{number}"] for number in range(12)} == {499}
    assert [answers["runs0"], answers["runs1"]] == [200, 200]
    assert not any(path.exists() for path in never)
