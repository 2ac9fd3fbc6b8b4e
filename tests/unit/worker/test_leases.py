# SPDX-License-Identifier: Apache-2.0
"""A worker that waits for its next request holds nothing of the last: its body is memory that others need."""

from __future__ import annotations

import time
import weakref
from typing import TYPE_CHECKING, Any

import pytest
from tests.conftest import poll_until
from tests.unit.worker.desks import Desk

from cubbyhole.api.lit_api import LitAPI

if TYPE_CHECKING:
    from collections.abc import Iterator


class Plain(LitAPI):
    def predict(self, x: Any) -> Any:
        return x


class Batched(LitAPI):
    def predict(self, x: Any) -> Any:
        return list(x)


class Streaming(LitAPI):
    def predict(self, x: Any) -> Iterator[Any]:
        yield x

    def encode_response(self, output: Any) -> Iterator[Any]:
        for value in output:
            yield {"output": value}


class BatchedStreaming(Streaming):
    def predict(self, x: Any) -> Iterator[Any]:
        yield list(x)

    def encode_response(self, output: Any) -> Iterator[Any]:
        for values in output:
            yield [{"output": value} for value in values]


@pytest.mark.parametrize(
    "lit_api",
    [
        Plain(),
        Batched(max_batch_size=4),
        Streaming(stream=True),
        BatchedStreaming(stream=True, max_batch_size=4),
    ],
    ids=lambda lit_api: type(lit_api).__name__,
)
def test_a_waiting_worker_holds_no_entry(lit_api: LitAPI) -> None:
    claimed: list[weakref.ref[Any]] = []
    desk = Desk(lit_api)
    port = desk.place.port
    claim = port.claim

    def noted(max_entries: int, wait_s: float) -> list[Any]:
        entries = claim(max_entries, wait_s)
        claimed.extend(weakref.ref(entry) for entry in entries)
        return entries

    port.claim = noted  # type: ignore[method-assign]
    with desk:
        desk.ask({"input": 1})
        assert len(claimed) == 1
        poll_until(lambda: claimed[0]() is None, timeout_s=3.0)


class Sleeping(LitAPI):
    def predict(self, x: Any) -> Any:
        time.sleep(max(one["sleep_s"] for one in x))
        return list(x)


def test_a_waiting_worker_holds_nothing_of_a_batch_that_was_published_beside_the_next() -> None:
    """The thread that publishes it waits, too, perhaps for hours, where the last predict was shorter than those before."""
    claimed: list[weakref.ref[Any]] = []
    desk = Desk(Sleeping(max_batch_size=2, batch_timeout=0.001))
    port = desk.place.port
    claim = port.claim

    def noted(max_entries: int, wait_s: float) -> list[Any]:
        entries = claim(max_entries, wait_s)
        claimed.extend(weakref.ref(entry) for entry in entries)
        return entries

    port.claim = noted  # type: ignore[method-assign]
    with desk:
        for _ in range(3):
            sleeps_s = [0.05] * 8 + [0.0] * 2
            asked = [desk.submit({"sleep_s": sleep_s}) for sleep_s in sleeps_s]
            for request_id in asked:
                desk.answer(request_id)
            poll_until(lambda: not [ref for ref in claimed if ref() is not None], timeout_s=3.0)
