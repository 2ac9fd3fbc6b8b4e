# SPDX-License-Identifier: Apache-2.0
"""Continuous batching: requests join and leave between two steps."""

from __future__ import annotations

from typing import Any

import pytest
from tests.conftest import poll_until
from tests.unit.worker.desks import Desk

from cubbyhole.api.lit_api import LitAPI
from cubbyhole.core.errors import HTTPError
from cubbyhole.worker.loops.continuous import ContinuousBatchingLoop
from cubbyhole.worker.loops.outputs import LitAPIStatus, Output


class Counting(LitAPI):
    """Counts up to what was asked for, one number a step."""

    def setup(self, device: Any) -> None:
        self.active: dict[str, list[Any]] = {}
        self.most = 0
        self.removed: list[str] = []

    def add_request(self, uid: str, request: Any) -> None:
        if request == "refuse":
            raise HTTPError(422, "no")
        self.active[uid] = [0, request]

    def has_capacity(self) -> bool:
        return len(self.active) < 3

    def has_active_requests(self) -> bool:
        return bool(self.active)

    def remove_request(self, uid: str) -> None:
        self.removed.append(uid)
        self.active.pop(uid, None)

    def step(self, prev_outputs: Any) -> list[Output]:
        self.most = max(self.most, len(self.active))
        outputs = []
        for uid, (now, end) in list(self.active.items()):
            if end == "crash":
                self.active.clear()
                raise RuntimeError("secret")
            if end == "error":
                del self.active[uid]
                outputs.append(Output(uid, None, LitAPIStatus.ERROR))
                continue
            outputs.append(Output(uid, now, LitAPIStatus.OK))
            self.active[uid][0] += 1
            if now + 1 == end:
                del self.active[uid]
                outputs.append(Output(uid, "", LitAPIStatus.FINISH_STREAMING))
        return outputs

    def encode_response(self, output: Any) -> Any:
        return {"n": output}


def lines(count: int) -> bytes:
    return b"".join(b'{"n": %d}\n' % n for n in range(count))


def make() -> Counting:
    return Counting(stream=True, loop=ContinuousBatchingLoop())


def test_requests_of_different_lengths_share_steps() -> None:
    api = make()
    with Desk(api) as desk:
        wanted = [5, 1, 7, 3, 4, 2]
        ids = [desk.submit(n) for n in wanted]
        for request_id, count in zip(ids, wanted, strict=True):
            answer = desk.answer(request_id)
            assert b"".join(answer.chunks) == lines(count)
            assert answer.outcome.status == 200
    assert api.most == 3  # its capacity


def test_one_that_is_refused_or_fails_is_nobody_elses_matter() -> None:
    with Desk(make()) as desk:
        good, refused, failed = desk.submit(5), desk.submit("refuse"), desk.submit("error")
        assert desk.answer(refused).failure.detail == "no"
        assert desk.answer(failed).failure.status == 500
        assert b"".join(desk.answer(good).chunks) == lines(5)


def test_a_step_that_raises_fails_what_was_under_way_and_no_more() -> None:
    with Desk(make()) as desk:
        assert "secret" in desk.ask("crash").failure.traceback_text
        assert b"".join(desk.ask(2).chunks) == lines(2)


def test_a_request_whose_client_left_is_removed() -> None:
    api = make()
    with Desk(api) as desk:
        request_id = desk.submit(10**9)
        poll_until(lambda: desk.so_far(request_id))
        desk.front.cancel(request_id)
        poll_until(lambda: api.removed == [str(request_id)])
        assert b"".join(desk.ask(1).chunks) == lines(1)


def test_predict_and_has_finished_will_do() -> None:
    class Simple(LitAPI):
        def predict(self, x: Any, generated: Any = None) -> Any:
            return [start + len(tokens) for start, tokens in zip(x, generated, strict=True)]

        def has_finished(self, uid: str, token: int, max_sequence_length: int) -> bool:
            return token >= max_sequence_length

        def encode_response(self, output: Any) -> Any:
            return f"{output} "

    loop = ContinuousBatchingLoop(max_sequence_length=5)
    with Desk(Simple(stream=True, max_batch_size=4, loop=loop)) as desk:
        ids = [desk.submit(n) for n in (3, 1)]
        assert [b"".join(desk.answer(i).chunks) for i in ids] == [b"3 4 5 ", b"1 2 3 4 5 "]


def test_what_is_missing_is_said_when_the_server_is_made() -> None:
    class Lacking(LitAPI):
        def step(self, prev_outputs: Any) -> Any: ...

    loop = ContinuousBatchingLoop()
    with pytest.raises(ValueError, match="requires streaming to be enabled"):
        loop.pre_setup(Lacking())
    with pytest.raises(ValueError, match="add_request, has_capacity, has_active_requests in Lack"):
        loop.pre_setup(Lacking(stream=True))
    loop.pre_setup(make())
