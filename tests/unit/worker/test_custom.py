# SPDX-License-Identifier: Apache-2.0
"""Loops that users wrote for LitServe run as they are."""

from __future__ import annotations

import asyncio
import queue
from typing import Any

from tests.unit.worker.desks import Desk

from cubbyhole.api.lit_api import LitAPI
from cubbyhole.core.errors import HTTPError
from cubbyhole.worker.loops.base import LitLoop
from cubbyhole.worker.loops.outputs import LitAPIStatus, LoopResponseType


class Api(LitAPI):
    def predict(self, x: Any) -> Any:
        return x * 2


class ByRun(LitLoop):
    """As in LitServe's documentation: one request a call."""

    def run(
        self,
        lit_api: Any,
        device: str,
        worker_id: int,
        request_queue: Any,
        transport: Any,
        workers_setup_status: Any,
        callback_runner: Any,
    ) -> None:
        item = request_queue.get(timeout=1.0)
        if item is None:
            return
        response_queue_id, uid, _timestamp, payload = item
        if uid is None:
            return
        if payload == "crash":
            raise RuntimeError("secret")
        if payload == "refuse":
            self.put_error_response(transport, response_queue_id, uid, HTTPError(409, "no"))
            return
        output = lit_api.predict(payload)
        transport.send(
            (uid, (output, LitAPIStatus.OK, LoopResponseType.REGULAR, worker_id)),
            consumer_id=response_queue_id,
        )


class ByCall(ByRun):
    def __call__(self, *args: Any, **kwargs: Any) -> None:
        try:
            while True:
                item = args[3].get(timeout=0.1)
                if item[1] is None:
                    return None
                self.put_response(
                    args[4], item[0], item[1], [item[3]], LitAPIStatus.OK, LoopResponseType.REGULAR
                )
        except queue.Empty:
            return self(*args, **kwargs)


class Streaming(LitLoop):
    def run(self, lit_api: Any, *args: Any) -> None:
        batch, _ = self.get_batch_requests(lit_api, args[2], args[3])
        for response_queue_id, uid, payload in batch:
            words = LoopResponseType.STREAMING
            for n in range(payload):
                self.put_response(args[3], response_queue_id, uid, {"n": n}, LitAPIStatus.OK, words)
            status = LitAPIStatus.FINISH_STREAMING
            self.put_response(args[3], response_queue_id, uid, "", status, words)


class Coroutine(LitLoop):
    async def run(self, lit_api: Any, *args: Any) -> None:
        item = await asyncio.to_thread(self.get_request, args[2], True, 0.1)
        if item is None or item[1] is None:
            return
        status, kind = LitAPIStatus.OK, LoopResponseType.REGULAR
        args[3].send((item[1], (lit_api.predict(item[3]), status, kind, 0)), consumer_id=item[0])


def test_a_loop_by_run() -> None:
    with Desk(Api(loop=ByRun())) as desk:
        assert [desk.ask(n).json for n in (1, 2)] == [2, 4]
        assert desk.ask("crash").failure.status == 500
        failure = desk.ask("refuse").failure
        assert (failure.status, failure.detail) == (409, "no")
        assert desk.ask(b"{").failure.code == "malformed_body"
        assert desk.ask(5).json == 10


def test_a_loop_by_call() -> None:
    with Desk(Api(loop=ByCall())) as desk:
        assert desk.ask(1).json == [1]
        assert desk.ask(2).json == [2]


def test_a_loop_that_streams() -> None:
    with Desk(Api(loop=Streaming(), stream=True, max_batch_size=2)) as desk:
        answer = desk.ask(3)
        assert b"".join(answer.chunks) == b'{"n": 0}\n{"n": 1}\n{"n": 2}\n'
        assert answer.outcome.status == 200


def test_a_loop_whose_run_is_a_coroutine() -> None:
    with Desk(Api(loop=Coroutine())) as desk:
        assert [desk.ask(n).json for n in (1, 2)] == [2, 4]
