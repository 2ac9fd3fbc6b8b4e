# SPDX-License-Identifier: Apache-2.0
"""Batches: their window, how items fail alone, what runs beside predict."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from tests.conftest import poll_until
from tests.unit.worker.desks import Desk

from cubbyhole.api.lit_api import LitAPI
from cubbyhole.core.clock import NEVER_NS, now_ns
from cubbyhole.core.errors import HTTPError
from cubbyhole.worker.loops import batched


class Doubling(LitAPI):
    def setup(self, device: Any) -> None:
        self.sizes: list[int] = []

    def predict(self, x: Any) -> Any:
        self.sizes.append(len(x))
        if "crash" in x:
            raise RuntimeError("secret")
        return [value * 2 for value in x]


def test_one_that_crashes_the_batch_fails_alone_and_the_rest_runs_again() -> None:
    api = Doubling(max_batch_size=3, batch_timeout=5.0)
    with Desk(api) as desk:
        ids = [desk.submit(value) for value in (1, "crash", 3)]
        assert desk.answer(ids[0]).json == 2
        assert desk.answer(ids[1]).failure.status == 500
        assert desk.answer(ids[2]).json == 6
    assert api.sizes == [3, 1, 1, 1]


def test_an_exception_among_the_outputs_fails_its_item_only() -> None:
    class Marking(LitAPI):
        def predict(self, x: Any) -> Any:
            return [HTTPError(400, "odd") if value % 2 else value for value in x]

    with Desk(Marking(max_batch_size=2, batch_timeout=5.0)) as desk:
        odd, even = desk.submit(1), desk.submit(2)
        assert desk.answer(odd).failure.detail == "odd"
        assert desk.answer(even).json == 2


def test_the_wrong_number_of_outputs_fails_all() -> None:
    class Losing(LitAPI):
        def predict(self, x: Any) -> Any:
            return x[1:]

    with Desk(Losing(max_batch_size=2, batch_timeout=5.0)) as desk:
        ids = desk.submit(1), desk.submit(2)
        for request_id in ids:
            failure = desk.answer(request_id).failure
            assert (failure.code, failure.status) == ("batch_size_mismatch", 500)
            assert failure.detail == "Batch size mismatch"


def test_a_full_batch_does_not_wait_for_its_window() -> None:
    api = Doubling(max_batch_size=2, batch_timeout=3600.0)
    with Desk(api) as desk:
        ids = desk.submit(1), desk.submit(2)
        assert [desk.answer(i).json for i in ids] == [2, 4]


def test_the_window_opens_at_the_first_request() -> None:
    """LitServe's opens when the worker begins to wait, so that batches split at random."""
    api = Doubling(max_batch_size=2, batch_timeout=1.0)
    with Desk(api) as desk:
        before = desk.beats
        poll_until(lambda: desk.beats > before + 60)  # longer idle than the window
        ids = [desk.submit(1)]
        before = desk.beats
        poll_until(lambda: desk.beats > before)
        ids.append(desk.submit(2))
        for request_id in ids:
            desk.answer(request_id)
    assert api.sizes == [2]


class Gate(LitAPI):
    """Predict waits until it is let through."""

    def setup(self, device: Any) -> None:
        self.sizes: list[int] = []
        self.decoded: list[Any] = []
        self.threads: set[int] = set()
        self.inside, self.open = threading.Event(), threading.Event()

    def decode_request(self, request: Any) -> Any:
        self.decoded.append(request)
        self.threads.add(threading.get_ident())
        return request

    def predict(self, x: Any) -> Any:
        self.sizes.append(len(x))
        self.inside.set()
        assert self.open.wait(10)
        return x


def run_two_batches(api: Gate, monkeypatch: pytest.MonkeyPatch, stop: bool = False) -> None:
    """Have a second batch wait while the first is in predict, with overlap worth its while."""
    monkeypatch.setattr(batched, "OVERLAP_FROM_S", 0.0)
    desk = Desk(api)
    ids = [desk.submit(n) for n in range(4)]
    with desk:
        try:
            assert api.inside.wait(5)
            if api.overlap_batches:
                poll_until(lambda: len(api.decoded) == 4)  # while predict runs
            if stop:
                desk.place.stopping.set()
        finally:
            api.open.set()
        assert [desk.answer(i).json for i in ids] == [0, 1, 2, 3]
    assert api.sizes == [2, 2]


def test_the_next_batch_is_decoded_while_predict_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    api = Gate(max_batch_size=2)
    run_two_batches(api, monkeypatch)
    assert len(api.threads) == 2


def test_overlap_can_be_turned_off(monkeypatch: pytest.MonkeyPatch) -> None:
    class Together(Gate):
        overlap_batches = False

    api = Together(max_batch_size=2)
    run_two_batches(api, monkeypatch)
    assert len(api.threads) == 1


def test_a_stopped_loop_answers_the_batch_it_has_fetched_ahead(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run_two_batches(Gate(max_batch_size=2), monkeypatch, stop=True)


def test_the_loop_of_a_reclaimed_worker_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batched, "OVERLAP_FROM_S", 0.0)
    api = Gate(max_batch_size=2)
    with Desk(api) as desk:
        desk.submit(1)
        assert api.inside.wait(5)
        desk.channel.reclaim("worker", 0)
        api.open.set()
        assert desk.wait_for_end(5)
        assert [type(error).__name__ for error in desk.errors] == ["StaleOwner"]


def test_items_that_nobody_waits_for_are_left_out() -> None:
    api = Gate(max_batch_size=2)
    with Desk(api) as desk:
        desk.submit(1)
        assert api.inside.wait(5)
        gone, there = desk.submit(2), desk.submit(3)
        desk.front.cancel(gone)
        api.open.set()
        assert desk.answer(there).json == 3
    assert 2 not in api.decoded


@pytest.mark.parametrize("end", ["cancelled", "expired"])
def test_what_is_over_while_the_window_is_open_is_not_run(end: str) -> None:
    api = Doubling(max_batch_size=2, batch_timeout=10.0)
    with Desk(api) as desk:
        deadline_ns = NEVER_NS if end == "cancelled" else now_ns() + 300_000_000
        over = desk.submit(1, deadline_ns=deadline_ns)
        poll_until(lambda: [entry.state for entry in desk.channel.snapshot()] == ["CLAIMED"])
        if end == "cancelled":
            desk.front.cancel(over)
        else:
            poll_until(lambda: now_ns() > deadline_ns)
        there = desk.submit(2)
        assert desk.answer(there).json == 4
        if end == "expired":
            assert desk.answer(over).failure.code == "expired"
    assert api.sizes == [1]
