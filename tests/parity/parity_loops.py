# SPDX-License-Identifier: Apache-2.0
"""Loops such as users write for LitServe. Workers import this module."""

from __future__ import annotations

import asyncio
import time
from queue import Empty

import cubbyhole as ls
from cubbyhole.loops import LitLoop, Output
from cubbyhole.utils import LitAPIStatus, LoopResponseType


class RunLoop(LitLoop):
    """As in LitServe's documentation: takes a request, answers it, is called again."""

    def run(
        self,
        lit_api,
        device,
        worker_id,
        request_queue,
        transport,
        workers_setup_status,
        callback_runner,
    ):
        try:
            response_queue_id, uid, _, payload = request_queue.get(timeout=1.0)
        except Empty:
            return
        if uid is None:
            return
        try:
            x = lit_api.decode_request(payload)
            data = {"by": type(self).__name__, "device": device, "y": lit_api.predict(x)}
            status = LitAPIStatus.OK
        except Exception as error:
            data, status = error, LitAPIStatus.ERROR
        answer = (uid, (data, status, LoopResponseType.REGULAR, worker_id))
        transport.send(answer, consumer_id=response_queue_id)


class NoWorkerIdLoop(LitLoop):
    """Sends tuples without a worker id, as an example of upstream's does."""

    def run(self, lit_api, device, worker_id, request_queue, transport, *args):
        request = self.get_request(request_queue, timeout=0.5)
        if request is None:
            return
        response_queue_id, uid, _, payload = request
        if uid is None:
            return
        data = lit_api.predict(lit_api.decode_request(payload))
        transport.send(
            (uid, (data, LitAPIStatus.OK, LoopResponseType.REGULAR)), consumer_id=response_queue_id
        )


class AsyncLoop(LitLoop):
    async def run(self, lit_api, device, worker_id, request_queue, transport, *args):
        item = await asyncio.to_thread(self.get_request, request_queue, True, 0.5)
        if item is None or item[1] is None:
            return
        response_queue_id, uid, _, payload = item
        for number in range(payload["count"]):
            chunk = (f"{number}\n", LitAPIStatus.OK, LoopResponseType.STREAMING, worker_id)
            transport.send((uid, chunk), consumer_id=response_queue_id)
        end = ("", LitAPIStatus.FINISH_STREAMING, LoopResponseType.STREAMING, worker_id)
        transport.send((uid, end), consumer_id=response_queue_id)


class Half(ls.LitAPI):
    def decode_request(self, request):
        return request["input"]

    def predict(self, x):
        if x == "raise":
            raise RuntimeError("no")
        return x / 2


class Counter(ls.LitAPI):
    """A model that batches by itself: counts down for each request, all in one step."""

    def setup(self, device):
        self.left = {}
        self.seen_together = 0

    def decode_request(self, request):
        return request["count"]

    def add_request(self, uid, request):
        if request == 13:
            raise ValueError("no thirteen")
        self.left[uid] = request

    def has_capacity(self):
        return len(self.left) < 4

    def has_active_requests(self):
        return bool(self.left)

    def step(self, prev_outputs):
        time.sleep(0.01)
        self.seen_together = max(self.seen_together, len(self.left))
        outputs = []
        for uid in list(self.left):
            self.left[uid] -= 1
            outputs.append(Output(uid, self.left[uid], LitAPIStatus.OK))
            if self.left[uid] == 0:
                del self.left[uid]
                outputs.append(Output(uid, "", LitAPIStatus.FINISH_STREAMING))
        return outputs

    def predict(self, inputs):
        yield from ()

    def encode_response(self, output):
        return f"{output}/{self.seen_together} "
