# SPDX-License-Identifier: Apache-2.0
"""The application of `bare_server.py`: one ASGI function, stdlib json, the model called in the serving process."""

from __future__ import annotations

import json
import os
import time
from typing import Any

from microbatch import MicroBatcher

WORKLOAD = os.environ["BENCH_WORKLOAD"]
JSON = [(b"content-type", b"application/json")]
RAW = [(b"content-type", b"application/octet-stream")]
batcher = MicroBatcher(lambda xs: (time.sleep(0.010), [x * x for x in xs])[1], 32, 0.005)


async def read(receive: Any) -> bytes:
    message = await receive()
    body = message["body"]
    if not message.get("more_body"):
        return body
    parts = [body]
    while message.get("more_body"):
        message = await receive()
        parts.append(message["body"])
    return b"".join(parts)


async def answer(send: Any, headers: list[tuple[bytes, bytes]], body: Any) -> None:
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": 200, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": body})


async def stream(send: Any, x: float) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": JSON})
    for i in range(100):
        chunk = b"%05d\n" % (int(x) * 100 + i)
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        return
    body = await read(receive)
    if WORKLOAD == "raw":
        import numpy as np

        twice = 2 * np.frombuffer(body, np.float32)
        await answer(send, RAW, memoryview(twice).cast("B"))
        return
    x = json.loads(body)["input"]
    if WORKLOAD == "stream":
        await stream(send, x)
        return
    if WORKLOAD == "batch":
        y = await batcher(x)
    else:
        if WORKLOAD == "sleep":
            time.sleep(0.005)  # noqa: ASYNC251  (a model that blocks is what is measured)
        y = x * x
    await answer(send, JSON, json.dumps({"output": y}).encode())
