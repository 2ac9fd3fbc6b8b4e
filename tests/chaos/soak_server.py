# SPDX-License-Identifier: Apache-2.0
"""The server of the soak: five kinds of work, and a note of every run, so that it can be told who was run how often."""

from __future__ import annotations

import asyncio
import faulthandler
import functools
import hashlib
import os
import time
from collections.abc import AsyncIterator, Iterator  # noqa: TC003  read by the server, at run time
from pathlib import Path
from typing import Any

import cubbyhole as ls
from cubbyhole.supervise import restarts

# A kill every second is more than the growing pause between restarts is made for: with it nobody would be there to be killed.
restarts.LONGEST_BACKOFF_S = float(os.environ.get("SOAK_BACKOFF_S", "0.2"))

HANGS_S = 1.5  # nothing takes so long here


class Noting(ls.LitAPI):
    """Notes each run in a file: a line is one write, so lines of several workers do not mix."""

    def setup(self, device: str) -> None:
        """Open it."""
        path = Path(os.environ["SOAK_RUNS"])
        self.noted_fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC)
        self.stacks = Path(f"{path}.{os.getpid()}").open("w")  # noqa: SIM115  as long as the worker
        faulthandler.dump_traceback_later(HANGS_S, repeat=True, file=self.stacks)

    def note(self, name: str) -> None:
        """Say that a request is run now; the stacks are printed if no other one follows for long."""
        os.write(self.noted_fd, f"{name}\n".encode())
        faulthandler.dump_traceback_later(HANGS_S, repeat=True, file=self.stacks)


class Plain(Noting):
    """Gives back what it gets."""

    def predict(self, x: dict[str, Any]) -> dict[str, Any]:
        """Wait as long as asked, and give it back."""
        self.note(x["id"])
        time.sleep(x["sleep_s"])
        return x


class Again(Plain):
    """Plain, but a request whose worker died is run again."""

    retry_on_worker_death = True


class Batched(Noting):
    """Gives back what it gets, several at once."""

    def batch(self, inputs: list[Any]) -> list[Any]:
        """Keep the list."""
        return list(inputs)

    def predict(self, x: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Wait as long as the longest, and give all back."""
        for one in x:
            self.note(one["id"])
        time.sleep(max(one["sleep_s"] for one in x))
        return x

    def unbatch(self, output: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Keep the list."""
        return output


class Streamed(Noting):
    """As many lines as asked, each with the request's own id."""

    def predict(self, x: dict[str, Any]) -> Iterator[str]:
        """Count."""
        self.note(x["id"])
        for number in range(x["lines"]):
            yield f"{x['id']} {number}\n"
            if number == x["lines"] // 2:
                time.sleep(x["sleep_s"])

    def encode_response(self, output: Iterator[str]) -> Iterator[str]:
        """Give them as they are."""
        yield from output


class Binary(Noting):
    """Bytes in, the same bytes out with their SHA-256 before them; both ways as views of the segment."""

    def decode_request(self, request: memoryview) -> memoryview:
        """Take the view."""
        return request

    def predict(self, x: memoryview) -> bytes:
        """Sum and copy."""
        self.note(bytes(x[:24]).decode().strip())
        return hashlib.sha256(x).digest() + bytes(x)

    def encode_response(self, output: bytes) -> Any:
        """Send it as it is."""
        return ls.Response(output, media_type="application/octet-stream")


class Asynchronous(Noting):
    """Many at once on one event loop."""

    async def predict(self, x: dict[str, Any]) -> dict[str, Any]:
        """Wait as long as asked, and give it back."""
        self.note(x["id"])
        await asyncio.sleep(x["sleep_s"])
        return x


class AsynchronousStream(Noting):
    """Streamed, on one event loop."""

    async def predict(self, x: dict[str, Any]) -> AsyncIterator[str]:
        """Count."""
        self.note(x["id"])
        for number in range(x["lines"]):
            yield f"{x['id']} {number}\n"
            await asyncio.sleep(x["sleep_s"] / x["lines"])

    async def encode_response(self, output: AsyncIterator[str]) -> AsyncIterator[str]:
        """Give them as they are."""
        async for line in output:
            yield line


def soak() -> ls.LitServer:
    """Build all of it, with GET /held and /front."""
    apis = [
        Plain(api_path="/plain"),
        Again(api_path="/again"),
        Batched(api_path="/batched", max_batch_size=8, batch_timeout=0.01),
        Streamed(api_path="/streamed", stream=True),
        Binary(api_path="/binary"),
        Asynchronous(api_path="/async", enable_async=True),
        AsynchronousStream(api_path="/async-stream", enable_async=True, stream=True),
    ]
    server = ls.LitServer(
        apis, accelerator="cpu", channel=os.environ.get("TEST_CHANNEL", "shm"), timeout=10
    )

    # A client that is starved for 5 s would lose its connection in good order, which here looks like a break.
    server.run = functools.partial(server.run, timeout_keep_alive=600)  # type: ignore[method-assign]

    def held() -> dict[str, int]:
        assert server.desk.place is not None
        now = server.desk.place.channel.statistics()
        return {
            "slots": now.slots_used,
            "blocks": now.blocks_used,
            "bytes": now.arena_used_bytes,
        }

    async def front() -> int:
        return os.getpid()

    server.app.add_api_route("/held", held)
    server.app.add_api_route("/front", front)
    return server
