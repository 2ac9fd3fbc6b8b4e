# SPDX-License-Identifier: Apache-2.0
"""The application of `fastapi_server.py`: pydantic in and out, the model called in the serving process."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse
from microbatch import MicroBatcher
from pydantic import BaseModel

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

WORKLOAD = os.environ["BENCH_WORKLOAD"]
app = FastAPI()
batcher = MicroBatcher(lambda xs: (time.sleep(0.010), [x * x for x in xs])[1], 32, 0.005)


class In(BaseModel):
    input: float


class Out(BaseModel):
    output: float


if WORKLOAD == "raw":
    import numpy as np

    @app.post("/predict")
    async def raw(request: Request) -> Response:
        twice = 2 * np.frombuffer(await request.body(), np.float32)
        return Response(memoryview(twice).cast("B"), media_type="application/octet-stream")

elif WORKLOAD == "stream":

    @app.post("/predict")
    async def stream(data: In) -> StreamingResponse:
        async def chunks() -> AsyncIterator[bytes]:
            for i in range(100):
                yield b"%05d\n" % (int(data.input) * 100 + i)

        return StreamingResponse(chunks())

else:

    @app.post("/predict")
    async def predict(data: In) -> Out:
        if WORKLOAD == "batch":
            return Out(output=await batcher(data.input))
        if WORKLOAD == "sleep":
            time.sleep(0.005)  # noqa: ASYNC251  (a model that blocks is what is measured)
        return Out(output=data.input * data.input)
