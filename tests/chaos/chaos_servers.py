# SPDX-License-Identifier: Apache-2.0
"""Servers for faults that those of `tests/integration/servers.py` do not have. `cubbyhole serve chaos_servers.py:NAME`."""

from __future__ import annotations

import asyncio
import ctypes
import os
import resource
import time
from collections.abc import AsyncIterator, Callable, Iterator  # noqa: TC003  read by the server, at run time
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field
from tests.integration.servers import CHANNEL, Echo, with_held, with_pid

import cubbyhole as ls


class Lines(ls.LitAPI):
    """{"lines": n, "sleep_s": s, "ended": path}: n lines with pauses; the path is there once the generator was closed."""

    def predict(self, x: dict[str, Any]) -> Iterator[str]:
        """Count."""
        try:
            for number in range(x["lines"]):
                if number == x.get("raise_at", -1):
                    raise ValueError("in mid-stream")
                yield f"{number}\n"
                time.sleep(x.get("sleep_s", 0))
        finally:
            if "ended" in x:
                Path(x["ended"]).touch()

    def encode_response(self, output: Iterator[str]) -> Iterator[str]:
        """Give them as they are."""
        yield from output


class LinesAsync(ls.LitAPI):
    """Lines, many at once on one event loop."""

    async def predict(self, x: dict[str, Any]) -> AsyncIterator[str]:
        """Count."""
        try:
            for number in range(x["lines"]):
                yield f"{number}\n"
                await asyncio.sleep(x.get("sleep_s", 0))
        finally:
            if "ended" in x:
                Path(x["ended"]).touch()  # noqa: ASYNC240  nobody waits for it

    async def encode_response(self, output: AsyncIterator[str]) -> AsyncIterator[str]:
        """Give them as they are."""
        async for line in output:
            yield line


class Faulty(ls.LitAPI):
    """{"value": v} -> {"value": v, "pid": of the worker}; {"fail": hook} fails in that hook, {"fault": name} in native code."""

    def decode_request(self, request: dict[str, Any]) -> dict[str, Any]:
        """Take it."""
        fail(request, "decode")
        return request

    def predict(self, x: dict[str, Any]) -> dict[str, Any]:
        """Do what it says."""
        fail(x, "predict")
        FAULTS[x.get("fault", "none")]()
        return x

    def encode_response(self, output: dict[str, Any]) -> dict[str, Any]:
        """Tell who it was."""
        fail(output, "encode")
        return {"value": output["value"], "pid": os.getpid()}


class FaultyBatch(Faulty):
    """Faulty, several at once: predict fails for all if it fails for one."""

    def batch(self, inputs: list[Any]) -> list[Any]:
        """Keep the list."""
        return list(inputs)

    def predict(self, x: Any) -> Any:
        """Wait a little, so that others gather; then do what each says."""
        for one in x:
            fail(one, "predict")
        time.sleep(0.02)
        return x

    def unbatch(self, output: list[Any]) -> list[Any]:
        """Keep the list."""
        return output


def fail(request: dict[str, Any], hook: str) -> None:
    if request.get("fail") == hook:
        raise ValueError(f"secret detail of {hook} {request.get('text', '')}")


def segmentation_fault() -> None:
    """Read the byte at address 0."""
    ctypes.string_at(0)


def no_memory_for_python() -> None:
    """Ask for more than the process may have: Python raises MemoryError."""
    had = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (4 << 30, had[1]))
    try:
        bytearray(8 << 30)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, had)


def abort() -> None:
    """End as a C++ library does that gets no memory."""
    os.abort()


FAULTS: dict[str, Callable[[], object]] = {
    "none": lambda: None,
    "segmentation fault": segmentation_fault,
    "no memory": no_memory_for_python,
    "abort": abort,
    "exit": lambda: os._exit(3),
}


def streams() -> ls.LitServer:
    """Four workers, one stream each at a time; GET /front, /held."""
    api = Lines(stream=True)
    server = ls.LitServer(api, accelerator="cpu", workers_per_device=4, channel=CHANNEL)
    return with_held(with_pid(server))


def streams_async() -> ls.LitServer:
    """One worker with many streams; GET /front, /held."""
    api = LinesAsync(stream=True, enable_async=True)
    return with_held(with_pid(ls.LitServer(api, accelerator="cpu", channel=CHANNEL)))


def faulty() -> ls.LitServer:
    """One worker."""
    return with_held(ls.LitServer(Faulty(), accelerator="cpu", channel=CHANNEL))


def faulty_batches() -> ls.LitServer:
    """One worker, eight at once."""
    api = FaultyBatch(max_batch_size=8, batch_timeout=0.2)
    return with_held(ls.LitServer(api, accelerator="cpu", channel=CHANNEL))


class Checked(BaseModel):
    """A request of which a number is checked."""

    value: int = Field(le=1000)


class Validated(ls.LitAPI):
    """Gives the number back."""

    def decode_request(self, request: Checked) -> Checked:
        """Take it."""
        return request

    def predict(self, x: Checked) -> dict[str, int]:
        """Tell who it was."""
        return {"value": x.value, "pid": os.getpid()}


def validated() -> ls.LitServer:
    """One worker."""
    return ls.LitServer(Validated(), accelerator="cpu", channel=CHANNEL)


def small_payloads() -> ls.LitServer:
    """Takes 100 kB at most."""
    return with_held(ls.LitServer(Faulty(), accelerator="cpu", max_payload_size=100_000))


def hurried(server: ls.LitServer) -> ls.LitServer:
    """Whose drain waits for a second only."""
    server.uvicorn_graceful_timeout = 1
    return server


def patient_fast() -> ls.LitServer:
    """Echo; what runs longer than a second after SIGTERM is given up."""
    return hurried(ls.LitServer(Echo(), accelerator="cpu", channel=CHANNEL, timeout=100))


def patient_slow() -> ls.LitServer:
    """The same behind a middleware of the user's, so that FastAPI's lane is taken."""
    server = patient_fast()

    @server.app.middleware("http")
    async def passing(request: Any, call_next: Any) -> Any:
        return await call_next(request)

    return server


def patient_stream() -> ls.LitServer:
    """Lines."""
    return hurried(ls.LitServer(Lines(stream=True), accelerator="cpu", channel=CHANNEL))
