# SPDX-License-Identifier: Apache-2.0
"""Servers for the tests of tracing and logs: `cubbyhole serve traced_servers.py:NAME`."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

import cubbyhole as ls

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

log = logging.getLogger("model")


class Steps(ls.LitAPI):
    """All three hooks; raises, dies or logs where a request asks for it."""

    def decode_request(self, request: dict[str, Any]) -> dict[str, Any]:
        """Give it back."""
        return request

    def predict(self, x: dict[str, Any]) -> dict[str, Any]:
        """Do what `x` says."""
        if "log" in x:
            log.warning("%s", x["log"])
        if "thread" in x:
            thread = threading.Thread(target=log.warning, args=("in a thread",))
            thread.start()
            thread.join()
        if "span" in x:
            from opentelemetry import trace

            with trace.get_tracer("user").start_as_current_span("mine"):
                pass
        if x.get("raise"):
            raise ValueError("no such picture\nin two lines")
        time.sleep(x.get("sleep_s", 0))
        if x.get("die"):
            os.kill(os.getpid(), signal.SIGKILL)
        return {"output": x.get("input", 0) * 2}

    def encode_response(self, output: dict[str, Any]) -> dict[str, Any]:
        """Give it back."""
        return output


class Sums(ls.LitAPI):
    """Batches."""

    def decode_request(self, request: dict[str, Any]) -> float:
        """Take the number."""
        return float(request["input"])

    def batch(self, inputs: list[float]) -> list[float]:
        """Keep the list."""
        return list(inputs)

    def predict(self, x: list[float]) -> list[float]:
        """Log, and double; a 13 fails the batch."""
        log.warning("batch of %d", len(x))
        if 13.0 in x:
            raise ValueError("thirteen")
        return [2 * value for value in x]

    def unbatch(self, output: list[float]) -> list[float]:
        """Keep the list."""
        return output

    def encode_response(self, output: float) -> dict[str, float]:
        """Name it."""
        return {"output": output}


class Count(ls.LitAPI):
    """A stream; raises after "raise_at" numbers."""

    def predict(self, x: dict[str, int]) -> Iterator[int]:
        """Count."""
        for number in range(x["input"]):
            if number == x.get("raise_at"):
                raise ValueError("it stops here")
            log.warning("number %d", number)
            yield number

    def encode_response(self, output: Iterator[int]) -> Iterator[dict[str, int]]:
        """Give a line for each."""
        for number in output:
            yield {"number": number}


class AsyncCount(ls.LitAPI):
    """The same, asynchronous."""

    async def predict(self, x: dict[str, int]) -> AsyncIterator[int]:
        """Count."""
        for number in range(x["input"]):
            await asyncio.sleep(0)
            log.warning("number %d", number)
            yield number

    async def encode_response(self, output: AsyncIterator[int]) -> AsyncIterator[dict[str, int]]:
        """Give a line for each."""
        async for number in output:
            yield {"number": number}


class Later(ls.LitAPI):
    """Answers after a turn of the event loop."""

    async def predict(self, x: dict[str, Any]) -> dict[str, Any]:
        """Log and wait."""
        log.warning("before")
        await asyncio.sleep(x.get("sleep_s", 0))
        log.warning("after")
        return x


def steps() -> ls.LitServer:
    """One API."""
    return ls.LitServer(Steps(), accelerator="cpu", timeout=5)


class Impatient:
    """An ASGI middleware of the user's, which gives up on a request."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer 504 by itself where nothing came in time."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        try:
            await asyncio.wait_for(self.app(scope, receive, send), 0.5)
        except asyncio.TimeoutError:
            await send({"type": "http.response.start", "status": 504, "headers": []})
            await send({"type": "http.response.body", "body": b"gave up"})


def impatient() -> ls.LitServer:
    """Its requests are given up after half a second."""
    return ls.LitServer(Later(enable_async=True), accelerator="cpu", middlewares=[Impatient])


def small() -> ls.LitServer:
    """Takes bodies of 64 bytes."""
    return ls.LitServer(Steps(), accelerator="cpu", max_payload_size=64)


def every_kind() -> ls.LitServer:
    """Single, batch, stream, asynchronous."""
    apis = [
        Steps(),
        Sums(api_path="/sums", max_batch_size=3, batch_timeout=5.0),
        Count(api_path="/count", stream=True),
        AsyncCount(api_path="/acount", stream=True, enable_async=True),
        Later(api_path="/later", enable_async=True),
    ]
    return ls.LitServer(apis, accelerator="cpu")


def behind_fastapi() -> ls.LitServer:
    """The slow lane: a middleware of the user's sees every request."""
    server = steps()

    @server.app.middleware("http")
    async def see(request: Any, call_next: Any) -> Any:
        return await call_next(request)

    return server
