# SPDX-License-Identifier: Apache-2.0
"""A front in this process: a `MemoryChannel`, a worker thread that runs a plain function, and uvicorn in a thread."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING, Any

import httpx
from typing_extensions import Self

import cubbyhole as ls
from cubbyhole.channels.base import ChannelSettings
from cubbyhole.core.entries import Chunk, Failure, Result
from cubbyhole.core.errors import ChannelClosed
from cubbyhole.core.roster import ProcessState, Roster
from cubbyhole.front.main import FrontArguments, make_server
from cubbyhole.testing.memory_channel import MemoryChannel

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Generator, Iterator

    from cubbyhole.core.entries import ClaimedEntry

    Model = Callable[[ClaimedEntry], "Iterator[Chunk | Result | Failure]"]


class EchoAPI(ls.LitAPI):
    """The workers of these tests run `Model` functions, so nothing of this is called."""

    def predict(self, x: Any, **_: Any) -> Any:
        return x


class StreamAPI(ls.LitAPI):
    def predict(self, x: Any, **_: Any) -> Any:
        yield x

    def encode_response(self, output: Any, **_: Any) -> Any:
        yield from output


def echo(entry: ClaimedEntry) -> Iterator[Result]:
    yield Result(bytes(entry.body))


class House:
    """A server whose front and workers live in this process."""

    def __init__(self, server: ls.LitServer, model: Model = echo, workers: int = 1) -> None:
        self.server = server
        self.model = model
        settings = server.settings
        self.channel = MemoryChannel(
            ChannelSettings(
                workers=workers,
                endpoints=len(settings.endpoints),
                slots=settings.slots,
                arena_bytes=settings.arena_bytes,
            )
        )
        self.roster = Roster.create(1, settings.workers_total)
        self.claimed: list[ClaimedEntry] = []
        self.cancelled = threading.Event()
        self._threads = [
            threading.Thread(target=self._work, args=(index,), daemon=True)
            for index in range(workers)
        ]

    def __enter__(self) -> Self:
        self.server.attach(self.channel, self.roster)
        for index in range(self.server.settings.workers_total):
            self.roster.set_state(self.roster.worker_cell(index), ProcessState.READY)
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.channel.close()
        for thread in self._threads:
            thread.join()
        self.roster.close()

    def _work(self, index: int) -> None:
        port = self.channel.worker(index, index % self.channel.settings.endpoints)
        with contextlib.suppress(ChannelClosed):
            while True:
                for entry in port.claim(1, 1.0):
                    self.claimed.append(entry)
                    self._answer(port, entry)
        port.close()

    def _answer(self, port: Any, entry: ClaimedEntry) -> None:
        for outcome in self.model(entry):
            while not port.publish(entry, outcome, 0.05):
                if entry.cancelled:
                    break
            if entry.cancelled:
                self.cancelled.set()
                return

    @contextlib.asynccontextmanager
    async def client(self, app: Any = None, **options: Any) -> AsyncIterator[httpx.AsyncClient]:
        """A client of the app within this process, with its lifespan."""
        transport = httpx.ASGITransport(app or self.server.app)
        async with (
            self.server.app.router.lifespan_context(self.server.app),
            httpx.AsyncClient(transport=transport, base_url="http://front", **options) as client,
        ):
            yield client

    @contextlib.contextmanager
    def over_http(self, **uvicorn_options: Any) -> Generator[str, None, None]:
        """A real uvicorn, as `run_front` makes it, in a thread. Gives its URL."""
        sock = socket.create_server(("127.0.0.1", 0))
        lifeline, keep = socket.socketpair()
        arguments = FrontArguments(
            index=0,
            server=self.server,
            settings=self.server.settings,
            channel=self.channel,
            roster=self.roster,
            sockets=[sock],
            lifeline=lifeline,
            uvicorn_options={"log_level": "critical", "log_config": None} | uvicorn_options,
        )
        server = make_server(arguments)
        thread = threading.Thread(target=server.run, args=([sock],), daemon=True)
        thread.start()
        try:
            host, port = sock.getsockname()
            yield f"http://{host}:{port}"
        finally:
            server.should_exit = True
            thread.join()
            for end in (lifeline, keep, sock):
                end.close()
