# SPDX-License-Identifier: Apache-2.0
"""Composition root: the one place that joins channel, fronts, workers and supervisor.

Flow:  LitServer.run -> serve(): bind -> channel, roster, life line -> spawn workers -> import the web stack meanwhile
       -> a worker is ready -> listen, fork fronts -> supervise -> drain
       tests -> launch(): the same without fronts; the app runs in the caller's process
Owns:  everything that a server has, for as long as `serve` or a `Running` lasts.

Order matters: workers come first because their imports take longest, and they run in parallel with the supervisor's own.
"""

from __future__ import annotations

import gc
import logging
import os
import threading
from typing import TYPE_CHECKING, Any

from cubbyhole.core.errors import WorkerFailedToStart
from cubbyhole.core.roster import ProcessState
from cubbyhole.observe import log
from cubbyhole.observe.description import describe
from cubbyhole.observe.post_mortem import PostMortem
from cubbyhole.places import front_places, inspector_child, make_pool, open_wire, worker_places
from cubbyhole.supervise import listening
from cubbyhole.supervise.admin import AdminSocket
from cubbyhole.supervise.devices import usable_cores
from cubbyhole.supervise.drain import SignalPipe, drain
from cubbyhole.supervise.operating import Operator

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping

    from typing_extensions import Self

    from cubbyhole.core.settings import ServerSettings
    from cubbyhole.places import Wire
    from cubbyhole.server import LitServer
    from cubbyhole.supervise.pool import Pool

PARENT_VARIABLE = "CUBBYHOLE_PARENT_FD"  # a pipe inherited from whoever must not leave a server behind: see testing.serving


class Running:
    """A server whose workers run and whose HTTP side is the caller's business: for tests, from `launch`.

    Used as a context manager: everything has ended when it is left.
    """

    def __init__(self, wire: Wire, pool: Pool, signals: SignalPipe) -> None:
        self.settings = wire.settings
        self.channel = wire.channel
        self.roster = wire.roster
        self._wire = wire
        self._pool = pool
        self._signals = signals
        self._changed = threading.Condition()
        self._ended = False
        self._thread = threading.Thread(target=self._supervise, name="cubbyhole-supervisor")

    def __enter__(self) -> Self:
        """Start the workers; does not wait for them."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End the workers and free the memory."""
        self._signals.stop("stop")
        self._thread.join()
        self._signals.close()
        self._wire.close()

    def wait_ready(self, timeout_s: float = 30.0) -> None:
        """Wait until every worker is ready.

        Raises:
            WorkerFailedToStart: a worker ended before it was ready.
            TimeoutError: still not ready after `timeout_s` seconds.
        """
        with self._changed:
            done = self._changed.wait_for(
                lambda: self.roster.workers_ready() or self._ended or self._pool.failed_starts(),
                timeout_s,
            )
        failed = self._pool.failed_starts()
        if failed:
            raise WorkerFailedToStart("; ".join(failed))
        if not done:
            raise TimeoutError(
                f"The workers are not ready after {timeout_s} s; `setup` takes longer or hangs."
            )

    def _supervise(self) -> None:
        try:
            self._pool.start("worker")
            while not self._signals.causes and not self._pool.failure:
                self._pool.turn(self._signals.descriptors())
                if self._pool.any_ready():
                    self._pool.settle()
                self._notify()
            _drain(self._wire, self._pool, self._signals, [])
        finally:
            self._ended = True
            self._notify()

    def _notify(self) -> None:
        with self._changed:
            self._changed.notify_all()


def serve(
    server: LitServer,
    settings: ServerSettings,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    num_api_servers: int | None = None,
    log_level: str = "info",
    log_format: str = "text",
    uvicorn_options: Mapping[str, Any] | None = None,
) -> None:
    """Serve until SIGTERM, SIGINT or a failure; returns after an orderly end.

    Args:
        server: Its APIs go to the workers, its app to the fronts.
        settings: What the server was asked to be.
        host: Address to listen on.
        port: 0 takes a free one.
        num_api_servers: Fronts; None: `choose_fronts`.
        log_level: For Cubbyhole's and uvicorn's records.
        log_format: Of the same: see `observe.log`.
        uvicorn_options: Further arguments of `uvicorn.Config`.

    Raises:
        RuntimeError: no worker could be started (LitServe's text).
        WorkerDied, WorkerFailedToStart: the server had to end; accepted requests were answered first.
        OSError: the port is taken.
    """
    log.configure(log_level, log_format)
    fronts = choose_fronts(settings) if num_api_servers is None else num_api_servers
    signals = SignalPipe()
    signals.install()
    parent = os.environ.pop(PARENT_VARIABLE, None)
    if parent is not None:
        signals.follow(int(parent))
    sockets: list[socket.socket] = []
    try:
        sockets = listening.bind(host, port, fronts)
        options = {"log_level": log_level, **(uvicorn_options or {})}
        if log_format == "json":  # uvicorn's records go the same way
            options.setdefault("log_config", None)
        options.update(host=host, port=sockets[0].getsockname()[1])
        wire = open_wire(server, settings, fronts, log_format)
        _serve_on(server, wire, signals, sockets, options)
    finally:
        listening.close(sockets)
        signals.restore()
        signals.close()


def _serve_on(
    server: LitServer,
    wire: Wire,
    signals: SignalPipe,
    sockets: list[socket.socket],
    options: dict[str, Any],
) -> None:
    places = worker_places(server, wire, options["log_level"])
    pool = make_pool([*places, *front_places(server, wire, sockets, options)], wire)
    admin = AdminSocket.listen(Operator(wire.channel, wire.settings, pool, signals))
    pool.attend(admin)
    inspector = None
    wire.roster.set_pid(wire.roster.supervisor, os.getpid())
    description = describe(
        wire.roster,
        wire.settings,
        wire.channel,
        options,
        admin=admin.address,
        kept=0 if wire.kept is None else wire.kept.inode,
    )
    if wire.settings.post_mortem:
        path = wire.settings.post_mortem
        wire.post_mortem = PostMortem(path, description, wire.channel, wire.roster)
        pool.attend(wire.post_mortem)
    ending = "ended in order"
    try:
        inspector = inspector_child(wire, options["log_level"])
        if inspector is not None:
            pool.attend(inspector)
        _supervise(server, wire, pool, signals, sockets, options)
    except BaseException as error:
        ending = f"ended: {type(error).__name__}: {error}"
        raise
    finally:
        if wire.post_mortem is not None:
            wire.post_mortem.finish(ending)
        pool.end()
        admin.close()
        if inspector is not None:
            inspector.end()
        wire.close()


def launch(server: LitServer, settings: ServerSettings, *, log_level: str = "info") -> Running:
    """Build a server without fronts, for tests: enter the result to start its workers.

    The app runs in the caller's process and opens `channel.front(0)` there.
    """
    wire = open_wire(server, settings, 1)
    pool = make_pool(worker_places(server, wire, log_level), wire)
    return Running(wire, pool, SignalPipe())


def choose_fronts(settings: ServerSettings) -> int:
    """Return how many HTTP processes to run where nobody said: one per worker, but not more than there are cores.

    LitServe takes one per worker. A front is bound by CPU (about 0.1 ms a request), so beyond the cores more of them
    only take time from the models.
    """
    return max(1, min(settings.workers_total, usable_cores()))


def _supervise(
    server: LitServer,
    wire: Wire,
    pool: Pool,
    signals: SignalPipe,
    sockets: list[socket.socket],
    options: dict[str, Any],
) -> None:
    pool.start("worker")
    import uvicorn

    # The rest of the web stack, too, is imported here, while the workers start, and once for all fronts.

    web = uvicorn.Config(server.app, **options)  # also applies uvicorn's logging, for _open()
    while not signals.causes and not pool.any_ready() and pool.alive("worker"):
        pool.turn(signals.descriptors())
        signals.clear()
    if not signals.causes and not pool.any_ready():
        cause = WorkerFailedToStart("; ".join(pool.failed_starts()))
        raise RuntimeError("One or more workers failed to start. Shutting down LitServe") from cause
    if not signals.causes:
        _open(server, wire, pool, sockets, web)
    while not signals.causes and not pool.failure:
        pool.turn(signals.descriptors())
        if signals.clear():
            pool.roll("SIGHUP")
    _drain(wire, pool, signals, sockets)
    if pool.failure:
        raise pool.failure


def _open(
    server: LitServer, wire: Wire, pool: Pool, sockets: list[socket.socket], web: Any
) -> None:
    listening.listen(sockets)
    wire.roster.set_state(wire.roster.supervisor, ProcessState.READY)
    gc.freeze()  # what fronts share with the supervisor stays shared: their collector does not touch it
    pool.start("front")
    pool.settle()
    scheme = "https" if web.is_ssl else "http"
    shown = f"[{web.host}]" if ":" in web.host else web.host
    address = f"{scheme}://{shown}:{web.port}"
    logging.getLogger("uvicorn.error").info("Uvicorn running on %s (Press CTRL+C to quit)", address)
    if wire.log_format == "json":
        return
    if server.app.openapi_url is not None and server.app.docs_url is not None:
        print(f"Swagger UI is available at {address}/docs", flush=True)  # noqa: T201  LitServe's line, read by scripts


def _drain(wire: Wire, pool: Pool, signals: SignalPipe, sockets: list[socket.socket]) -> None:
    drain(
        pool,
        wire.roster,
        signals,
        timeout_s=wire.settings.drain_timeout_s,
        stop_listening=lambda: listening.close(sockets),
        in_flight=lambda: wire.channel.statistics().slots_used,
    )
