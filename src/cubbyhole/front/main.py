# SPDX-License-Identifier: Apache-2.0
"""The process of a front: uvicorn around a server's app, until it is told to end or its supervisor is gone.

Flow:  supervisor forks -> **run_front** -> uvicorn -> FrontApp; SIGTERM -> DRAINING -> accepted requests finish -> exit code 0
Owns:  its port, its uvicorn. The listening sockets are shared with the other fronts.
See:   docs/design/request-path.md
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import threading
import time
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from cubbyhole.core.roster import ProcessState
from cubbyhole.front.app import FrontApp
from cubbyhole.front.connections import bounded_protocol
from cubbyhole.front.desk import Place
from cubbyhole.front.routes import fast_lanes, processes_ready
from cubbyhole.front.times import SlowHeaders, SlowReaders

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Generator

    from cubbyhole.channels.base import Channel
    from cubbyhole.core.roster import Roster
    from cubbyhole.core.settings import ServerSettings

logger = logging.getLogger(__name__)

ORPHAN_GRACE_S = (
    0.8  # an orphan ends within a second of its supervisor, whatever its event loop is doing
)


@dataclass
class FrontArguments:
    """All that a front needs; fronts are forked, so these are live objects.

    Attributes:
        index: Number of the front, also LITSERVE_WORKER_ID in its environment.
        server: The `LitServer`, with `app` and `desk`.
        settings: The server's.
        channel: Its port `index` is opened here.
        roster: Cell `index` is this front's.
        sockets: Listening already.
        lifeline: Readable (end of file) when the supervisor is gone.
        uvicorn_options: For `uvicorn.Config`; they win over ours.
        shut_down: Asks the supervisor to end the whole server, for the shutdown endpoint.
    """

    index: int
    server: Any
    settings: ServerSettings
    channel: Channel
    roster: Roster
    sockets: list[socket.socket]
    lifeline: Any
    uvicorn_options: dict[str, Any] = field(default_factory=dict)
    shut_down: Callable[[], None] | None = None


class FrontServer(uvicorn.Server):
    """uvicorn, but SIGTERM drains and SIGINT (Ctrl-C reaches the whole group) is left to the supervisor."""

    def __init__(self, config: uvicorn.Config, arguments: FrontArguments) -> None:
        super().__init__(config)
        self._arguments = arguments
        self._slow_headers = SlowHeaders(arguments.settings.receive_timeout_s)
        self._slow_readers = SlowReaders(arguments.settings.send_timeout_s)
        self._loop: asyncio.AbstractEventLoop | None = None

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Listen to signals while the server runs."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {
            signal.SIGTERM: signal.signal(signal.SIGTERM, lambda *_: self.drain()),
            signal.SIGINT: signal.signal(signal.SIGINT, signal.SIG_IGN),
        }
        try:
            yield
        finally:
            for number, previous in before.items():
                signal.signal(number, previous)

    async def on_tick(self, counter: int) -> bool:
        """Uvicorn's, ten times a second; once a second connections are looked at, too."""
        if counter % 10 == 0:
            connections, now_s = self.server_state.connections, time.monotonic()
            closed = self._slow_headers.look(connections, now_s)
            ended = self._slow_readers.look(connections, now_s)
            if closed or ended:
                logger.debug("slow connections closed: senders=%d readers=%d", closed, ended)
        return await super().on_tick(counter)

    def drain(self) -> None:
        """Accept nothing more, finish what was accepted."""
        arguments = self._arguments
        arguments.roster.set_state(arguments.index, ProcessState.DRAINING)
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to serve."""
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Finish what was accepted. Whoever cannot be waited for has 503 before uvicorn cancels his task, which makes it a 500."""
        patience_s = self.config.timeout_graceful_shutdown or 0  # uvicorn's own begins 0.1 s later
        loop = asyncio.get_running_loop()
        last_call = loop.call_later(patience_s, self._arguments.server.desk.close)
        try:
            await super().shutdown(sockets)
        finally:
            last_call.cancel()

    def abandon(self) -> None:
        """End at once, without waiting for open requests, which are answered 503. From any thread."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # it has ended already
                self._loop.call_soon_threadsafe(self._arguments.server.desk.close)
        self.force_exit = True
        self.should_exit = True


def make_server(arguments: FrontArguments) -> FrontServer:
    """Join a server's app, its place and uvicorn; nothing runs yet."""
    server, options = arguments.server, dict(arguments.uvicorn_options)
    desk = server.desk
    desk.place = Place(arguments.index, arguments.channel, arguments.roster)
    desk.shut_down = arguments.shut_down
    if arguments.settings.grpc_port is not None:
        from cubbyhole.front.grpc_service import (
            grpc_lifespan,  # heavy, and only for who asks for it
        )

        address = str(options.get("host", "127.0.0.1"))
        desk.lifespans.append(
            grpc_lifespan(
                desk, address, arguments.settings.grpc_port, lambda: processes_ready(desk)
            )
        )
    root_path = options.get("root_path", "")
    # Forwarded headers matter to user routes only: their cost stays off the fast lane.
    app: Any = server.app
    if options.pop("proxy_headers", True):
        trusted = options.pop("forwarded_allow_ips", None)
        trusted = trusted or os.environ.get("FORWARDED_ALLOW_IPS", "127.0.0.1")
        app = ProxyHeadersMiddleware(app, trusted_hosts=trusted)
    access_log = None
    if options.pop("access_log", False):
        from cubbyhole.front.access import AccessLog

        app = access_log = AccessLog(app)
    lanes = fast_lanes(server.app, desk, server.own_middlewares, access_log)
    desk.fast_paths = frozenset(lanes)
    front = FrontApp(desk, app, {root_path + path: lane for path, lane in lanes.items()})
    host, port = arguments.sockets[0].getsockname()[:2] if arguments.sockets else (None, None)
    ours: dict[str, Any] = {
        "host": host,
        "port": port,
        "loop": "uvloop",
        "http": "httptools",
        "lifespan": "on",
        "access_log": False,  # uvicorn's costs about as much CPU as the rest of the fast lane; ours is in access.py
        "server_header": False,
        "timeout_graceful_shutdown": max(1, round(arguments.settings.drain_timeout_s)),
    }
    most = arguments.settings.max_connections
    if most is not None:
        share = -(-most // arguments.roster.fronts)
        options["http"] = bounded_protocol(options.get("http", ours["http"]), share)
    config = uvicorn.Config(
        front, **{**ours, **options, "interface": "asgi3", "proxy_headers": False}
    )
    return FrontServer(config, arguments)


def _end_with(lifeline: Any, server: FrontServer) -> None:
    """Wait for the supervisor's end; a thread, because the event loop may be busy with user code."""
    wait([lifeline])
    logger.warning("front ends: supervisor gone")
    server.abandon()
    threading.Event().wait(ORPHAN_GRACE_S)
    os._exit(1)  # the loop is stuck; nothing that it owns outlives the process


def run_front(arguments: FrontArguments) -> None:
    """Serve until SIGTERM or the end of the supervisor. Returns when everything accepted was answered."""
    os.environ["LITSERVE_WORKER_ID"] = str(arguments.index)
    roster = arguments.roster
    roster.set_pid(arguments.index, os.getpid())
    roster.set_state(arguments.index, ProcessState.STARTING)
    server = make_server(arguments)
    threading.Thread(
        target=_end_with, args=(arguments.lifeline, server), name="lifeline", daemon=True
    ).start()
    # What was built before the fork lives as long as the process: the collector need not look at it again and again.
    gc.collect()
    gc.freeze()
    with contextlib.suppress(asyncio.CancelledError):
        server.run(sockets=arguments.sockets)
    roster.set_state(arguments.index, ProcessState.FINISHED)
