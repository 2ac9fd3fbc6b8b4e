# SPDX-License-Identifier: Apache-2.0
"""Servers for the tests with real processes. Each function builds one: `cubbyhole serve servers.py:NAME`."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cubbyhole as ls

if TYPE_CHECKING:
    from collections.abc import Iterator

CHANNEL = os.environ.get("TEST_CHANNEL", "shm")


class Square(ls.LitAPI):
    """{"input": x} -> {"output": x * x, "pid": of the worker}; it sleeps, dies or raises where a request asks for it."""

    def predict(self, x: dict[str, Any]) -> dict[str, Any]:
        """Do what `x` says."""
        if "begun" in x:
            Path(x["begun"]).touch()
        time.sleep(x.get("sleep_s", 0))
        if x.get("die"):
            os.kill(os.getpid(), signal.SIGKILL)
        return {
            "output": x["input"] ** 2,
            "pid": os.getpid(),
            "id": os.environ["LITSERVE_WORKER_ID"],
        }


class Echo(ls.LitAPI):
    """Gives back what it gets, after a while where a request asks for it."""

    def predict(self, x: dict[str, Any]) -> dict[str, Any]:
        """Give it back, or its size."""
        if "begun" in x:
            Path(x["begun"]).touch()
        time.sleep(x.get("sleep_s", 0))
        return {"size": len(x["data"])} if x.get("measure") else x


class Stubborn(Square):
    """Square, whose requests are run again when their worker dies."""

    retry_on_worker_death = True


class Growing(Square):
    """Square, but each request leaves a few megabytes behind."""

    def setup(self, device: str) -> None:
        """Have a place for them."""
        self.kept: list[bytearray] = []

    def predict(self, x: dict[str, Any]) -> dict[str, Any]:
        """Keep some memory, touched."""
        self.kept.append(bytearray(b"x") * (4 << 20))
        return super().predict(x)


class Negate(ls.LitAPI):
    """{"input": x} -> {"output": -x}."""

    def predict(self, x: dict[str, Any]) -> dict[str, Any]:
        """Negate."""
        return {"output": -x["input"]}


class Batch(ls.LitAPI):
    """Squares, and how many were in the batch."""

    def decode_request(self, request: dict[str, Any]) -> float:
        """Take the number."""
        return float(request["input"])

    def batch(self, inputs: list[float]) -> list[float]:
        """Keep the list."""
        return list(inputs)

    def predict(self, x: list[float]) -> list[dict[str, float]]:
        """Square each."""
        return [{"output": value**2, "size": len(x)} for value in x]

    def unbatch(self, output: list[dict[str, float]]) -> list[dict[str, float]]:
        """Keep the list."""
        return output


class Count(ls.LitAPI):
    """A stream: one JSON line for each number below the input."""

    def predict(self, x: dict[str, int]) -> Iterator[int]:
        """Count."""
        yield from range(x["input"])

    def encode_response(self, output: Iterator[int]) -> Iterator[dict[str, int]]:
        """Give a line for each."""
        for number in output:
            yield {"number": number}


class Broken(ls.LitAPI):
    """`setup` raises."""

    def setup(self, device: str) -> None:
        """Raise."""
        raise ValueError(f"no weights for {device}")


class Hanging(ls.LitAPI):
    """`setup` does not end."""

    def setup(self, device: str) -> None:
        """Sleep."""
        time.sleep(1000)


class BreaksLater(ls.LitAPI):
    """`setup` works once."""

    def setup(self, device: str) -> None:
        """Raise at the second start."""
        mark = Path(os.environ["TEST_MARK"])
        if mark.exists():
            raise ValueError("the file is gone")
        mark.touch()

    def predict(self, x: Any) -> Any:
        """Die."""
        os._exit(7)


class Written(ls.Logger):
    """Writes events to a file."""

    def process(self, key: str, value: Any) -> None:
        """Append a line."""
        with Path(os.environ["TEST_LOG"]).open("a") as file:
            file.write(f"{key}={value}\n")


class Logging(ls.LitAPI):
    """Logs its input."""

    def predict(self, x: dict[str, Any]) -> dict[str, Any]:
        """Log and return."""
        self.log("input", x["input"])
        return x


def one(**options: Any) -> ls.LitServer:
    """Squares."""
    return ls.LitServer(Square(), accelerator="cpu", channel=CHANNEL, **options)


def impatient() -> ls.LitServer:
    """Squares within a second."""
    return one(timeout=1.0)


def narrow() -> ls.LitServer:
    """Squares, two at most under way, of at most 1000 bytes."""
    return one(max_queue=2, max_payload_size=1000)


def prioritised() -> ls.LitServer:
    """Squares, in the order that clients ask for."""
    return one(priorities=True)


def limited() -> ls.LitServer:
    """Squares, with limits of waiting and of running far below the timeout."""
    return one(queue_timeout=0.4, execution_timeout=1.0)


def hasty_receiver() -> ls.LitServer:
    """Squares; requests must be sent within a second."""
    return one(receive_timeout=1.0)


def stubborn() -> ls.LitServer:
    """Squares; what kills a worker is tried again."""
    return ls.LitServer(Stubborn(), accelerator="cpu", workers_per_device=2, channel=CHANNEL)


def recycling() -> ls.LitServer:
    """Squares in two workers, each of which serves about 40 requests."""
    return one(workers_per_device=2, recycle_after_requests=40)


def growing() -> ls.LitServer:
    """Squares in two workers that may not have more than 200 MiB of their own."""
    return ls.LitServer(
        Growing(), accelerator="cpu", workers_per_device=2, channel=CHANNEL, recycle_above="200MiB"
    )


def echoes() -> ls.LitServer:
    """Echo and a stream in two workers each, with GET /held: what the channel holds, and the front's descriptors."""
    apis = [Echo(), Count(api_path="/stream", stream=True)]
    server = ls.LitServer(apis, accelerator="cpu", workers_per_device=2, channel=CHANNEL)
    return with_held(server)


def small_arena() -> ls.LitServer:
    """Echo with room for few large bodies."""
    server = ls.LitServer(
        Echo(), accelerator="cpu", workers_per_device=1, channel=CHANNEL, arena_bytes=8 << 20
    )
    return with_held(server)


def with_held(server: ls.LitServer) -> ls.LitServer:
    """Add GET /held."""

    def held() -> dict[str, int]:
        assert server.desk.place is not None
        now = server.desk.place.channel.statistics()
        return {
            "slots": now.slots_used,
            "blocks": now.blocks_used,
            "bytes": now.arena_used_bytes,
            "descriptors": len(list(Path("/proc/self/fd").iterdir())),
            "front": os.getpid(),
        }

    server.app.add_api_route("/held", held)
    return server


def strict() -> ls.LitServer:
    """A dead worker ends the server."""
    return one(restart_workers=False)


def two() -> ls.LitServer:
    """Two APIs with two workers each."""
    apis = [Square(api_path="/square"), Negate(api_path="/negate")]
    return with_pid(ls.LitServer(apis, accelerator="cpu", workers_per_device=2, channel=CHANNEL))


def patient() -> ls.LitServer:
    """One path whose requests may wait for minutes."""
    return ls.LitServer(Square(), accelerator="cpu", timeout=600, slots=2048)


def all_kinds() -> ls.LitServer:
    """Single, batch, stream."""
    apis = [
        Square(),
        Batch(api_path="/batch", max_batch_size=4, batch_timeout=0.2),
        Count(api_path="/stream", stream=True),
    ]
    return ls.LitServer(apis, accelerator="cpu", channel=CHANNEL)


def two_workers() -> ls.LitServer:
    """Squares in two workers."""
    return with_pid(one(workers_per_device=2))


def broken() -> ls.LitServer:
    """Never ready."""
    return ls.LitServer(Broken(), accelerator="cpu", workers_per_device=2, channel=CHANNEL)


def half_broken() -> ls.LitServer:
    """One API is ready, the other never."""
    apis = [Square(), Broken(api_path="/broken")]
    return ls.LitServer(apis, accelerator="cpu", channel=CHANNEL)


def breaks_later() -> ls.LitServer:
    """Ready once."""
    return ls.LitServer(BreaksLater(), accelerator="cpu", channel=CHANNEL)


def hanging() -> ls.LitServer:
    """Never ready, and silent."""
    return ls.LitServer(Hanging(), accelerator="cpu", channel=CHANNEL)


def logging() -> ls.LitServer:
    """With a logger."""
    return ls.LitServer(Logging(), accelerator="cpu", loggers=Written(), channel=CHANNEL)


def can_be_shut_down() -> ls.LitServer:
    """With the shutdown endpoint; its key is in LIT_SHUTDOWN_API_KEY."""
    return one(enable_shutdown_api=True)


def with_pid(server: ls.LitServer) -> ls.LitServer:
    """Add GET /front, which tells the front's pid."""

    async def front() -> int:
        return os.getpid()

    server.app.add_api_route("/front", front)
    return server


if __name__ == "__main__":
    one().run(port=int(os.environ["TEST_PORT"]), generate_client_file=False)


def hide(_payload: object) -> None:
    """Let nobody see what requests carry."""


def make_hidden() -> ls.LitServer:
    """Build Square with that hook."""
    return ls.LitServer(Square(), accelerator="cpu", redact=hide)
