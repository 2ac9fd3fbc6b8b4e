# SPDX-License-Identifier: Apache-2.0
"""The inspector's process: it finds the server as anybody of the same user does, and serves the page.

Flow:  `cubbyhole inspector` | process.py -> **run_inspector** -> uvicorn -> Guard -> app
Owns:  its sockets while it runs; a Unix socket's file, which it removes.
See:   docs/guide/inspector.md
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
from typing import TYPE_CHECKING, Any

import uvicorn

from cubbyhole.inspector.app import make_app
from cubbyhole.inspector.guard import LOOPBACK_NAMES, Guard
from cubbyhole.inspector.peers import knows_peers, uid_of_peer
from cubbyhole.inspector.snapshots import Snapshots
from cubbyhole.seen.attached import attach
from cubbyhole.seen.reach import is_loopback

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from cubbyhole.inspector.process import InspectorArguments
    from cubbyhole.seen.attached import AttachedServer

logger = logging.getLogger(__name__)

SOCKET_MODE = 0o600


class InspectorServer(uvicorn.Server):
    """uvicorn, which also ends with the supervisor that started it, and does not wait for viewers."""

    def __init__(self, config: uvicorn.Config, snapshots: Snapshots, lifeline: Any) -> None:
        super().__init__(config)
        self._snapshots = snapshots
        self._lifeline = lifeline

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """As a child, leave Ctrl-C, which reaches the whole process group, to the supervisor."""
        if self._lifeline is None:
            with super().capture_signals():
                yield
            return
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, lambda *_: self._leave())
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and watch the life line."""
        await super().startup(sockets)
        if self._lifeline is not None:
            asyncio.get_running_loop().add_reader(self._lifeline.fileno(), self._end)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let the viewers go first: their streams have no end of their own."""
        self._snapshots.close()
        await super().shutdown(sockets)

    def _end(self) -> None:
        asyncio.get_running_loop().remove_reader(self._lifeline.fileno())
        self._leave()

    def _leave(self) -> None:
        self.should_exit = True


def bind_unix(path: Path) -> socket.socket:
    """Bind a Unix socket that only this user may connect to.

    Raises:
        OSError: the path is taken by something that lives, or not allowed.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    if path.is_socket() and sock.connect_ex(str(path)) != 0:
        path.unlink()  # left over: nobody listens
    mask = os.umask(0o777 & ~SOCKET_MODE)  # from the first moment on, not from a chmod on
    try:
        sock.bind(str(path))
    except OSError:
        sock.close()
        raise
    finally:
        os.umask(mask)
    return sock


def make_server(arguments: InspectorArguments, attached: AttachedServer) -> InspectorServer:
    """Join page, guard and uvicorn; nothing runs yet."""
    reattach: Callable[[], AttachedServer] | None = attach if arguments.pid is None else None
    snapshots = Snapshots(attached, reattach)
    host = arguments.host
    reachable = host is not None and not is_loopback(host)
    app = Guard(
        make_app(snapshots, payloads=arguments.payloads),
        arguments.key,
        None if reachable else LOOPBACK_NAMES,
        uid_of_peer if host is not None and knows_peers() else None,
    )
    config = uvicorn.Config(
        app,
        lifespan="on",
        ws="none",
        access_log=False,
        server_header=False,
        proxy_headers=False,  # whose process asks is the kernel's word, not a header's
        log_level=arguments.log_level,
        timeout_graceful_shutdown=3,
    )
    return InspectorServer(config, snapshots, arguments.lifeline)


def run_inspector(arguments: InspectorArguments) -> None:
    """Serve the page until SIGTERM, Ctrl-C, or the end of the supervisor that started us.

    Raises:
        NoServer: there is nothing to look at.
    """
    if (
        arguments.lifeline is not None
    ):  # a child: Ctrl-C reaches the whole group, its end is the supervisor's decision
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    with attach(arguments.pid) as attached:
        server = make_server(arguments, attached)
        for sock in arguments.sockets:
            sock.listen()
        server.run(sockets=arguments.sockets)
