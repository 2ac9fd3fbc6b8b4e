# SPDX-License-Identifier: Apache-2.0
"""What a server consists of: the channel, roster and life line that its processes share, and a place for each process.

Flow:  wiring.serve, wiring.launch -> **open_wire** -> worker_places, front_places -> make_pool -> supervise.pool
Owns:  Wire: the memory and the descriptors, until `close`. Processes are the pool's.
See:   wiring.py for the order in which all of it is started
"""

from __future__ import annotations

import logging
import os
import signal
from typing import TYPE_CHECKING, Any

import msgspec

from cubbyhole.channels.base import ChannelSettings
from cubbyhole.channels.registry import create_channel
from cubbyhole.core.errors import NativeCoreMissing
from cubbyhole.core.kept import KeptRequests
from cubbyhole.core.roster import ProcessState, Roster
from cubbyhole.front.withdrawal import Mailboxes
from cubbyhole.inspector.process import InspectorArguments, run_inspector_process
from cubbyhole.supervise import listening
from cubbyhole.supervise.attendant import Attendant
from cubbyhole.supervise.health import Limits
from cubbyhole.supervise.lifeline import Lifeline
from cubbyhole.supervise.place import Place
from cubbyhole.supervise.pool import Pool
from cubbyhole.supervise.process import Child, fork_child, spawn_child
from cubbyhole.supervise.scaling import Scaler
from cubbyhole.worker.main import WorkerArguments, run_worker

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from cubbyhole.api.loggers import LoggerProcess
    from cubbyhole.channels.base import Channel
    from cubbyhole.core.settings import ServerSettings
    from cubbyhole.observe.post_mortem import PostMortem
    from cubbyhole.server import LitServer

logger = logging.getLogger(__name__)

FALLBACK_CHANNEL = "sockets"
FORM_PARSER = "cubbyhole.front.forms:parse_form"  # by name: a worker that gets no form never imports the web stack


class Wire(msgspec.Struct):
    """What all processes of a server share."""

    settings: ServerSettings
    channel: Channel
    roster: Roster
    lifeline: Lifeline
    loggers: LoggerProcess | None = None
    log_format: str = "text"
    post_mortem: PostMortem | None = None
    kept: KeptRequests | None = None

    def close(self) -> None:
        """Let every child end, and free the memory."""
        if self.loggers is not None:
            self.loggers.stop()
        self.lifeline.close()
        self.channel.close()
        self.roster.close()
        if self.kept is not None:
            self.kept.close()


def open_wire(
    server: LitServer, settings: ServerSettings, fronts: int, log_format: str = "text"
) -> Wire:
    """Make the channel, the loggers' process, the roster and the life line.

    Without a native core the channel is "sockets".
    """
    sizes = ChannelSettings(
        fronts=fronts,
        workers=settings.workers_total,
        endpoints=len(settings.endpoints),
        slots=settings.slots,
        arena_bytes=settings.arena_bytes,
    )
    try:
        channel = create_channel(settings.channel, sizes)
    except NativeCoreMissing as error:
        logger.warning(
            "channel replaced: wanted=%s used=%s reason=%s",
            settings.channel,
            FALLBACK_CHANNEL,
            error,
        )
        settings = msgspec.structs.replace(settings, channel=FALLBACK_CHANNEL)
        channel = create_channel(FALLBACK_CHANNEL, sizes)
    roster = Roster.create(fronts, settings.workers_total)
    # The life line comes after the channel: one that forks a process of its own must not hold it.
    wire = Wire(settings, channel, roster, Lifeline.create(), log_format=log_format)
    if settings.keep_requests_bytes:
        wire.kept = KeptRequests.create(settings.keep_requests_bytes, fronts)
    if server.loggers:
        from cubbyhole.api.loggers import LoggerProcess

        wire.loggers = LoggerProcess(server.loggers)
        wire.loggers.start()
    return wire


def make_pool(places: list[Place], wire: Wire) -> Pool:
    """Return the pool that will start and watch these places, as the settings ask."""
    return Pool(
        places,
        wire.channel,
        wire.roster,
        restart_workers=wire.settings.restart_workers,
        limits=Limits(
            execution_timeout_s=wire.settings.execution_timeout_s,
            kill_cancelled_after_s=wire.settings.kill_cancelled_after_s,
            front_timeout_s=wire.settings.front_timeout_s,
        ),
        recycle_above_bytes=wire.settings.recycle_above_bytes,
        scaler=Scaler(wire.settings, wire.channel, wire.roster),
    )


def worker_places(server: LitServer, wire: Wire, log_level: str) -> list[Place]:
    """Return a place for each worker: spawned, with the LitAPI of its endpoint."""
    places = []
    for index in range(wire.settings.workers_total):
        endpoint, number, device = wire.settings.worker_place(index)
        arguments = WorkerArguments(
            index=index,
            endpoint=endpoint,
            number=number,
            device=device,
            lit_api=server.lit_apis[endpoint],
            settings=wire.settings.endpoints[endpoint],
            channel=wire.channel,
            roster=wire.roster,
            callbacks=server.callbacks,
            lifeline=wire.lifeline,
            log_sink=wire.loggers.sink if wire.loggers else None,
            parse_form=FORM_PARSER,
            log_level=log_level,
            log_format=wire.log_format,
            otel=wire.settings.otel,
        )
        places.append(
            Place(
                role="worker",
                index=index,
                cell=wire.roster.worker_cell(index),
                start=_starter(spawn_child, "worker", index, run_worker, arguments),
                label=f"endpoint={wire.settings.endpoints[endpoint].path} device={device}",
            )
        )
    return places


def front_places(
    server: LitServer, wire: Wire, sockets: list[socket.socket], options: dict[str, Any]
) -> list[Place]:
    """Return a place for each front: forked, with one of the sockets and the server's app."""
    supervisor = os.getpid()
    server.desk.kept = wire.kept
    if wire.settings.cancel_by_id:
        server.desk.mailboxes = Mailboxes(len(sockets))
    if any(endpoint.handover for endpoint in wire.settings.endpoints):
        from cubbyhole.front.handover import Counter

        server.desk.counter = Counter(sockets[0].getsockname()[1])

    def run(index: int) -> None:
        from cubbyhole.front.main import FrontArguments, run_front

        # A copy of a sibling's socket would go on listening after the sibling has closed it.
        listening.close([sock for sock in sockets if sock is not sockets[index]])
        run_front(
            FrontArguments(
                index=index,
                server=server,
                settings=wire.settings,
                channel=wire.channel,
                roster=wire.roster,
                sockets=[sockets[index]],
                lifeline=wire.lifeline,
                uvicorn_options=options,
                shut_down=lambda: os.kill(supervisor, signal.SIGTERM),
            )
        )

    return [
        Place(
            role="front",
            index=index,
            cell=index,
            start=_starter(fork_child, "front", index, run, index),
        )
        for index in range(len(sockets))
    ]


def inspector_child(wire: Wire, log_level: str) -> Attendant | None:
    """Bind the inspector's port and return its process, not yet started; None: no inspector is wanted, or nothing is to be seen.

    Raises:
        OSError: the port is taken.
    """
    wanted = wire.settings.inspector
    if wanted is None:
        return None
    if not getattr(wire.channel, "inode", 0):
        logger.warning("no inspector: channel=%s reason=entries_not_visible", wire.channel.kind)
        return None
    sockets = listening.bind(wanted.host, wanted.port, 1)
    port = sockets[0].getsockname()[1]
    arguments = InspectorArguments(
        pid=os.getpid(),
        sockets=sockets,
        key=wanted.key,
        host=wanted.host,
        payloads=wanted.payloads,
        lifeline=wire.lifeline,
        log_level="warning" if log_level == "info" else log_level,
    )
    shown = f"[{wanted.host}]" if ":" in wanted.host else wanted.host
    logger.info("inspector on http://%s:%d", shown, port)
    os.register_at_fork(after_in_child=lambda: listening.close(sockets))  # fronts do not hold it
    return Attendant(
        "inspector",
        lambda: spawn_child("inspector", 0, run_inspector_process, arguments, user_code=False),
        is_due=lambda: wire.roster.state(wire.roster.supervisor) == ProcessState.READY,
        on_end=lambda: listening.close(sockets),
    )


def _starter(
    start: Callable[..., Child], role: str, index: int, target: Callable[..., None], arguments: Any
) -> Callable[[], Child]:
    return lambda: start(role, index, target, arguments)
