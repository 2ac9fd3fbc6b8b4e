# SPDX-License-Identifier: Apache-2.0
"""Section 7: batches."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import requests
from parity_apis import Batched

import cubbyhole as ls

if TYPE_CHECKING:
    from collections.abc import Callable

    from cubbyhole.testing.serving import Served

    Serve = Callable[[Callable[[], ls.LitServer]], Served]


def batched() -> ls.LitServer:
    return ls.LitServer(Batched(max_batch_size=4, batch_timeout=0.3))


def post_all(url: str, inputs: list[Any]) -> list[requests.Response]:
    with ThreadPoolExecutor(len(inputs)) as pool:
        return list(
            pool.map(
                lambda x: requests.post(f"{url}/predict", json={"input": x}, timeout=10), inputs
            )
        )


def test_requests_that_wait_together_run_together_in_order(serve: Serve) -> None:
    answers = post_all(serve(batched).url, [1, 2, 3, 4])
    assert [answer.json()["output"] for answer in answers] == [2, 4, 6, 8]
    assert {answer.json()["batch"] for answer in answers} == {4}


def test_a_batch_of_one_also_goes_through_batch(serve: Serve) -> None:
    (answer,) = post_all(serve(batched).url, [5])
    assert answer.json() == {"output": 10.0, "batch": 1}


def test_one_bad_item_is_answered_alone(serve: Serve) -> None:
    """Defect 11: its neighbours got its error."""
    answers = post_all(serve(batched).url, [1, "bad", 3, "broken"])
    assert [answer.status_code for answer in answers] == [200, 400, 200, 500]
    assert [answers[0].json()["output"], answers[2].json()["output"]] == [2, 6]
