# SPDX-License-Identifier: Apache-2.0
"""Servers for the tests of operators, cancellation and scaling: `cubbyhole serve operated.py:NAME`."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cubbyhole as ls

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PAUSE_S = 0.005
CHANNEL = os.environ.get("TEST_CHANNEL", "shm")


def mark(path: str) -> None:
    """Make a file that the test looks for."""
    Path(path).touch()


class Watching(ls.LitAPI):
    """Squares; where a request asks for it, it waits for a file, or until it is cancelled, or goes on without looking."""

    def setup(self, device: str) -> None:
        """Begin to count."""
        self.number = 0

    def predict(self, x: dict[str, Any], cancelled: Callable[[], bool]) -> dict[str, Any]:
        """Do what `x` says."""
        self.number += 1
        if "begun" in x:
            Path(x["begun"]).touch()
        while "until" in x and not Path(x["until"]).exists():
            time.sleep(PAUSE_S)
        if "until_cancelled" in x:
            while not cancelled():
                time.sleep(PAUSE_S)
            Path(x["until_cancelled"]).touch()
        time.sleep(x.get("sleep_s", 0))
        return {"output": x["input"] ** 2, "number": self.number, "pid": os.getpid()}


def watching(**options: Any) -> ls.LitServer:
    """Squares."""
    return ls.LitServer(Watching(), accelerator="cpu", channel=CHANNEL, **options)


class Stubborn(Watching):
    """Watching, but what kills its worker is tried again."""

    retry_on_worker_death = True

    def predict(self, x: dict[str, Any], cancelled: Callable[[], bool]) -> dict[str, Any]:
        """Die where a request asks for it."""
        if x.get("die"):
            os._exit(9)
        return super().predict(x, cancelled)


class TooMany(Watching):
    """Watching, but only the first worker can be set up."""

    def setup(self, device: str) -> None:
        """Raise in all but the first one."""
        if os.environ["LITSERVE_WORKER_ID"] != "0":
            raise MemoryError("no memory for another model")
        super().setup(device)


class Batched(ls.LitAPI):
    """Batches of two that go on until a file is there, whoever still waits."""

    def predict(self, x: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Wait, and square."""
        for one in x:
            Path(one["begun"]).touch()
        while not all(Path(one["until"]).exists() for one in x):
            time.sleep(PAUSE_S)
        return [{"output": one["input"] ** 2, "pid": os.getpid()} for one in x]

    def batch(self, inputs: list[Any]) -> list[Any]:
        """Keep the list."""
        return inputs

    def unbatch(self, output: list[Any]) -> list[Any]:
        """Keep the list."""
        return output


class Sleeping(ls.LitAPI):
    """Asynchronous; says in a file that it was cancelled."""

    async def predict(self, x: dict[str, Any]) -> dict[str, Any]:
        """Sleep."""
        mark(x["begun"])
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            mark(x["until_cancelled"])
            raise
        return x


class Counting(ls.LitAPI):
    """A stream without an end; says in a file that its generator was closed."""

    def predict(self, x: dict[str, Any]) -> Iterator[int]:
        """Count."""
        number = 0
        try:
            while True:
                yield number
                number += 1
                time.sleep(PAUSE_S)
        finally:
            Path(x["until_cancelled"]).touch()

    def encode_response(self, output: Iterator[int]) -> Iterator[dict[str, int]]:
        """Give a line for each."""
        for number in output:
            yield {"number": number}


def scaling() -> ls.LitServer:
    """Squares in one to three workers that come and go quickly."""
    return watching(min_workers=1, max_workers=3, scale_up_after=0.2, scale_down_after=1.0)


def withdrawing() -> ls.LitServer:
    """Squares in two workers; requests can be taken back."""
    return watching(workers_per_device=2, cancel_by_id=True)


def fixed() -> ls.LitServer:
    """Squares in three workers."""
    return watching(workers_per_device=3)


def too_many() -> ls.LitServer:
    """Squares; a second worker cannot start."""
    return ls.LitServer(
        TooMany(),
        accelerator="cpu",
        channel=CHANNEL,
        min_workers=1,
        max_workers=2,
        scale_up_after=0.2,
    )


def poisoned() -> ls.LitServer:
    """Squares in two workers; what kills one is tried again."""
    return ls.LitServer(Stubborn(), accelerator="cpu", channel=CHANNEL, workers_per_device=2)


def escalating() -> ls.LitServer:
    """Squares; who goes on with what is cancelled for half a second is ended."""
    return watching(kill_cancelled_after=0.5)


def escalating_batches() -> ls.LitServer:
    """Batches of two; the same."""
    api = Batched(max_batch_size=2, batch_timeout=5.0)
    return ls.LitServer(api, accelerator="cpu", channel=CHANNEL, kill_cancelled_after=0.3)


def busy_batches() -> ls.LitServer:
    """Batches of two in two workers."""
    api = Batched(max_batch_size=2, batch_timeout=5.0)
    return ls.LitServer(api, accelerator="cpu", channel=CHANNEL, workers_per_device=2)


def kinds() -> ls.LitServer:
    """Synchronous, asynchronous, a stream."""
    apis = [
        Watching(),
        Sleeping(api_path="/async", enable_async=True),
        Counting(api_path="/stream", stream=True),
    ]
    return ls.LitServer(apis, accelerator="cpu", channel=CHANNEL)


def impatient_with_fronts() -> ls.LitServer:
    """Squares; a front that stands still for a second is ended."""
    return watching(front_timeout=1.0)
