# SPDX-License-Identifier: Apache-2.0
"""A worker process from its first line to its last: set up, say ready, loop, drain.

Flow:  supervise -> spawn -> **run_worker(arguments)** -> LitAPI.setup -> LitLoop.serve -> exit code
Owns:  the worker's port, its cell in the roster, its reaction to signals and to the life line.
See:   worker/loops/base.py (what a loop must do), supervise/process.py (who reads the exit code)

    STARTING ── setup ──> READY ── SIGTERM ──> (finishes what it claimed) ──> FINISHED, exit 0
        └─ setup raises ──> ERROR, exit 1

A heartbeat is the loop's progress, not the process's life: a `predict` that never returns lets it go stale, and
`supervise/health.py` then ends this process. Nothing beats on behalf of the loop.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cubbyhole.api.callbacks import CallbackRunner
from cubbyhole.core.clock import now_ns
from cubbyhole.core.errors import ChannelError
from cubbyhole.core.roster import ProcessState
from cubbyhole.observe import log
from cubbyhole.worker.loops.base import LitLoop, Workplace, runs_itself
from cubbyhole.worker.runner import Runner, run_setup

if TYPE_CHECKING:
    from collections.abc import Callable

    from cubbyhole.api.callbacks import Callback
    from cubbyhole.api.lit_api import LitAPI
    from cubbyhole.channels.base import Channel
    from cubbyhole.core.entries import Buffer
    from cubbyhole.core.roster import Roster
    from cubbyhole.core.settings import EndpointSettings

logger = logging.getLogger(__name__)

DRAIN_MOST_S = 30.0  # after SIGTERM; the supervisor has its own, usually shorter, patience
ORPHANED = 3  # exit code when the supervisor is gone


@dataclass(frozen=True)
class WorkerArguments:
    """What a worker process is given; pickles by "spawn".

    Attributes:
        index: Worker of the whole server.
        endpoint: Its API's number.
        number: Its number within the API: LITSERVE_WORKER_ID.
        device: For `setup`, e.g. "cpu" or "cuda:0".
        lit_api, settings: The API.
        channel, roster: What it shares with the other processes.
        callbacks: Of the user.
        lifeline: Anything with `fileno()` that becomes readable when the supervisor is gone.
        log_sink: Queue for `LitAPI.log`, or None.
        parse_form: (body, content type) -> mapping; given by the front's side, which knows the web stack.
        log_level, log_format: For Cubbyhole's own records.
        otel: As in `ServerSettings`.
    """

    index: int
    endpoint: int
    number: int
    device: str
    lit_api: LitAPI
    settings: EndpointSettings
    channel: Channel
    roster: Roster
    callbacks: list[Callback] = field(default_factory=list)
    lifeline: Any = None
    log_sink: Any = None
    parse_form: Callable[[Buffer, str], Any] | str | None = None
    log_level: str = "info"
    log_format: str = "text"
    otel: str | None = None


def run_worker(arguments: WorkerArguments) -> None:
    """Be a worker: the target of a spawned process.

    Raises:
        SystemExit: 1 if `setup` raised or the channel was lost. SIGTERM in `setup` ends the process at once.
    """
    os.environ["LITSERVE_WORKER_ID"] = str(arguments.number)
    log.configure(arguments.log_level, arguments.log_format)
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C reaches the whole group; the supervisor decides
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if arguments.lifeline is not None:
        _watch(arguments.lifeline)
    cell = arguments.roster.worker_cell(arguments.index)
    arguments.roster.set_pid(cell, os.getpid())
    arguments.roster.beat(cell, now_ns())
    arguments.roster.set_state(cell, ProcessState.STARTING)
    if not set_up(arguments):
        arguments.roster.set_state(cell, ProcessState.ERROR)
        raise SystemExit(1)
    place = open_workplace(arguments)
    signal.signal(signal.SIGTERM, lambda _number, _frame: _begin_drain(place))
    arguments.roster.set_state(cell, ProcessState.READY)
    logger.debug(
        "worker ready: worker=%d path=%s device=%s",
        arguments.index,
        arguments.settings.path,
        arguments.device,
    )
    try:
        serve(arguments.lit_api.loop, place)
    except (
        ChannelError
    ) as error:  # declared dead, or the channel is gone: the cell may be another's already
        logger.warning(
            "worker ends: worker=%d code=%s error=%r", arguments.index, error.code, str(error)
        )
        raise SystemExit(1) from error
    place.finish_asides()
    place.port.close()
    arguments.roster.set_state(cell, ProcessState.FINISHED)


def set_up(arguments: WorkerArguments) -> bool:
    """Run the user's `setup` with its callbacks. False: it raised, and the log says what."""
    lit_api = arguments.lit_api
    callbacks = CallbackRunner(arguments.callbacks)
    if arguments.log_sink is not None:
        lit_api.set_logger_queue(arguments.log_sink)
    callbacks.trigger_event("on_before_setup", lit_api=lit_api)
    problem = run_setup(lit_api, arguments.device)
    if problem is not None:
        logger.error(
            "setup failed: worker=%d path=%s device=%s error=%r",
            arguments.index,
            arguments.settings.path,
            arguments.device,
            str(problem.error),
            exc_info=problem.error,
        )
        return False
    lit_api.device = arguments.device
    callbacks.trigger_event("on_after_setup", lit_api=lit_api)
    return True


def open_workplace(arguments: WorkerArguments) -> Workplace:
    """Open the port and put everything together for a loop."""
    roster, cell = arguments.roster, arguments.roster.worker_cell(arguments.index)
    beat = roster.beat
    port = arguments.channel.worker(arguments.index, arguments.endpoint)
    reserve = port.reserve if arguments.channel.capabilities.in_place else None
    made = (arguments.lit_api, arguments.callbacks, arguments.parse_form, reserve)
    handover = arguments.settings.handover
    if arguments.otel is None:
        runner = Runner(*made, handover=handover)
    else:
        from cubbyhole.worker.tracing import trace

        port, runner = trace(port, made, arguments.otel, arguments.index, handover=handover)
    memories = runner.memories

    def beat_and_tidy() -> None:
        beat(cell, now_ns())
        if memories is not None:
            memories.expire(time.monotonic())

    return Workplace(
        port,
        runner,
        arguments.settings,
        beat_and_tidy,
        arguments.number,
        arguments.callbacks,
    )


def serve(loop: LitLoop, place: Workplace) -> None:
    """Run a loop: ours by `serve`, a user's by LitServe's `run`."""
    if runs_itself(loop):
        LitLoop.serve(loop, place)
    else:
        loop.serve(place)


def _begin_drain(place: Workplace) -> None:
    place.stopping.set()
    timer = threading.Timer(min(place.settings.timeout_s, DRAIN_MOST_S), os._exit, (1,))
    timer.daemon = True
    timer.start()


def _watch(lifeline: Any) -> None:
    """End this process when the supervisor ends, even in the middle of a running predict."""

    def wait() -> None:
        poller = select.poll()
        poller.register(lifeline.fileno(), select.POLLIN | select.POLLHUP)
        poller.poll()
        os._exit(ORPHANED)

    threading.Thread(target=wait, name="lifeline", daemon=True).start()
