# SPDX-License-Identifier: Apache-2.0
"""Loggers: where `lit_api.log(key, value)` goes.

All loggers of a server run in one process of their own, so that a slow one (a network, a disk) never slows a model.

    worker: lit_api.log -> LogSink.put -> thread -> its own pipe ──┐
    worker: lit_api.log -> LogSink.put -> thread -> its own pipe ──┴─> LoggerProcess: logger.process(key, value)

Each process that logs makes its own pipe and sends its reading end over one socket pair, which all inherit. So there
is no name to find, and no lock that a killed worker could leave held: what it had half written ends with its pipe.

Owns:  `LoggerProcess` owns the process; a `LogSink` its pipe, its thread and what is not written yet.
See:   LogSink is what `LitAPI.set_logger_queue` gets; wiring starts and stops the process.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import pickle
import queue
import selectors
import signal
import socket
import struct
import threading
import time
import warnings
from abc import ABC, abstractmethod
from multiprocessing.util import Finalize
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

log = logging.getLogger(__name__)

PENDING_MAX = (
    10_000  # events of one process that may wait for its pipe; beyond, the newest are dropped
)
FLUSH_S = 2.0  # how long an ending worker may take to write what waits
JOIN_S = 5.0  # how long the loggers may take with the last events at shutdown
READ_BYTES = 1 << 16

_LENGTH = struct.Struct("<Q")
_PIPE, _STOP = b"p", b"s"


class Logger(ABC):
    """Base of users' loggers: `process` is called for each `lit_api.log(key, value)` of any worker.

    A subclass with its own `__init__` should call `super().__init__()`.
    """

    _mounts: tuple[tuple[str, Any], ...] = ()  # on the class, for subclasses that do not

    def __getstate__(self) -> dict[str, Any]:
        """Leave mounted apps behind: they are served by the fronts, not by the loggers' process."""
        return {**self.__dict__, "_mounts": ()}

    def mount(self, path: str, app: Any) -> None:
        """Serve an ASGI app (e.g. Prometheus' at "/metrics") on the server's port."""
        self._mounts = (*self._mounts, (path, app))

    @property
    def mounts(self) -> list[tuple[str, Any]]:
        """The mounted (path, app), in order."""
        return list(self._mounts)

    @abstractmethod
    def process(self, key: str, value: Any) -> None:
        """Do something with one event; runs in the loggers' process, one event at a time."""


def check_loggers(loggers: Any) -> list[Logger]:
    """Turn LitServer's argument into a list.

    Raises:
        ValueError: it holds something that is no Logger.
    """
    if loggers is None:
        return []
    if isinstance(loggers, Logger):
        return [loggers]
    if not isinstance(loggers, (list, tuple)):
        raise ValueError("loggers must be a list or an instance of litserve.Logger")  # noqa: TRY004
    if not all(isinstance(logger, Logger) for logger in loggers):
        raise ValueError("Logger must be an instance of litserve.Logger")
    return list(loggers)


class LogSink:
    """A worker's way to the loggers. Pickles into spawned children and survives fork."""

    def __init__(self, hub: socket.socket) -> None:
        self._hub = hub
        self._pid = 0
        self._pending: queue.Queue[bytes | None] = queue.Queue()
        self._thread: threading.Thread | None = None
        self.dropped = 0

    def __reduce__(self) -> tuple[Any, ...]:
        return LogSink, (self._hub,)

    def put(self, event: tuple[str, Any]) -> None:
        """Send (key, value). Never waits: with `PENDING_MAX` events unwritten, the event is dropped and counted.

        Raises:
            Exception: what pickle raises for a key or value that it cannot take.
        """
        payload = pickle.dumps(event, pickle.HIGHEST_PROTOCOL)
        if self._pid != os.getpid():
            self._open()
        try:
            self._pending.put_nowait(_LENGTH.pack(len(payload)) + payload)
        except queue.Full:
            self.dropped += 1
            if self.dropped == 1:
                log.warning("log events dropped: pending=%d reason=loggers_too_slow", PENDING_MAX)

    def flush(self, timeout_s: float = FLUSH_S) -> None:
        """Wait until what was put is written, at most `timeout_s` seconds; the next `put` opens a new pipe."""
        thread, self._thread = self._thread, None
        if thread is None or self._pid != os.getpid():
            return
        self._pid = 0
        with contextlib.suppress(queue.Full):
            self._pending.put(None, timeout=timeout_s)
        thread.join(timeout_s)

    def close(self) -> None:
        """Flush, and let go of the socket."""
        self.flush()
        self._hub.close()

    def _open(self) -> None:
        reading, writing = os.pipe()
        try:
            socket.send_fds(self._hub, [_PIPE], [reading])
        except (
            OSError
        ) as error:  # the loggers' process has ended: nobody will read, and that is all
            log.warning("log events are lost: reason=%s", error)
        finally:
            os.close(reading)
        self._pending = queue.Queue(PENDING_MAX)
        self._thread = threading.Thread(
            target=_write_all, args=(self._pending, writing), name="cubbyhole-log", daemon=True
        )
        self._pid = os.getpid()
        self._thread.start()
        Finalize(self, self.flush, exitpriority=10)  # runs in children of multiprocessing too


def _write_all(pending: queue.Queue[bytes | None], writing: int) -> None:
    with open(writing, "wb", buffering=0) as pipe:
        is_open = True
        while (record := pending.get()) is not None:
            view = memoryview(record)
            while view and is_open:
                try:
                    view = view[pipe.write(view) :]
                except OSError:  # noqa: PERF203  (the reader is gone; go on emptying, so that nobody waits for us)
                    is_open = False


class LoggerProcess:
    """The process of all loggers. `start`, hand `sink` to the workers, `stop` after they ended."""

    def __init__(self, loggers: Sequence[Logger]) -> None:
        self._loggers = list(loggers)
        self._process: Any = None
        self._hub: socket.socket | None = None
        self._sink: LogSink | None = None

    @property
    def sink(self) -> LogSink:
        """What the workers log to.

        Raises:
            RuntimeError: before `start`.
        """
        if self._sink is None:
            raise RuntimeError("The loggers' process is not started: call start() first.")
        return self._sink

    @property
    def pid(self) -> int | None:
        """Process id, None before `start`."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Spawn the process."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self._hub = ours
        self._sink = LogSink(ours)
        self._process = multiprocessing.get_context("spawn").Process(
            target=_run,
            args=([_portable(logger) for logger in self._loggers], theirs),
            name="cubbyhole-loggers",
        )
        self._process.start()
        theirs.close()

    def stop(self, timeout_s: float = JOIN_S) -> None:
        """Let the loggers finish what was sent, at most `timeout_s` seconds, and join the process."""
        if self._process is None or self._hub is None or self._sink is None:
            return
        self._sink.flush()
        with contextlib.suppress(OSError):
            self._hub.send(_STOP)
        self._process.join(timeout_s)
        if self._process.is_alive():
            log.warning("loggers ended: pid=%s reason=not_finished_in_%.0f_s", self.pid, timeout_s)
            self._process.terminate()
            self._process.join(1.0)
        self._process.close()
        self._hub.close()
        self._process = self._hub = self._sink = None


def _portable(logger: Logger) -> bytes:
    """Pickle a logger, or, if it cannot be pickled, its class, to be made anew over there."""
    try:
        return pickle.dumps(logger)
    except (pickle.PicklingError, TypeError, AttributeError):
        warnings.warn(
            f"Logger {type(logger).__name__} is not pickleable and might not work properly. "
            "It is made anew in the loggers' process, without arguments.",
            stacklevel=4,
        )
        return pickle.dumps(type(logger))


def _revived(pickled: bytes) -> Logger:
    made = pickle.loads(pickled)  # noqa: S301  (our own parent's, through its spawn)
    logger: Logger = made() if isinstance(made, type) else made
    return logger


def _run(pickled: list[bytes], hub: socket.socket) -> None:
    """Be the loggers' process: read all pipes until told to stop, or until nobody is left who could write."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the server, which will say stop
    loggers = [_revived(item) for item in pickled]
    unread: dict[int, bytearray] = {}
    give_up_at_s = float("inf")
    with selectors.DefaultSelector() as selector:
        selector.register(hub, selectors.EVENT_READ)
        is_open = True
        while is_open or unread:
            wait_s = None if is_open else max(0.0, give_up_at_s - time.monotonic())
            ready = selector.select(wait_s)
            if not ready and not is_open:
                return
            for key, _ in ready:
                if key.fileobj is hub:
                    message, descriptors, _, _ = socket.recv_fds(hub, 1, 1)
                    for reading in descriptors:
                        unread[reading] = bytearray()
                        selector.register(reading, selectors.EVENT_READ)
                    if message in (_STOP, b""):
                        is_open = False
                        give_up_at_s = time.monotonic() + JOIN_S
                        selector.unregister(hub)
                elif not _read(key.fd, unread[key.fd], loggers):
                    selector.unregister(key.fd)
                    os.close(key.fd)
                    del unread[key.fd]


def _read(reading: int, held: bytearray, loggers: list[Logger]) -> bool:
    """Pass on the events that are complete; False at the end of the pipe."""
    data = os.read(reading, READ_BYTES)
    held += data
    while len(held) >= _LENGTH.size:
        (length,) = _LENGTH.unpack_from(held)
        end = _LENGTH.size + length
        if len(held) < end:
            break
        event = bytes(held[_LENGTH.size : end])
        del held[:end]
        _pass_on(event, loggers)
    return bool(data)


def _pass_on(event: bytes, loggers: list[Logger]) -> None:
    try:
        key, value = pickle.loads(event)  # noqa: S301  (from our own workers, over a pipe that only they have)
    except Exception:  # user's classes: whatever their unpickling raises costs this event only
        log.exception("log event lost: reason=cannot_unpickle")
        return
    for logger in loggers:
        try:
            logger.process(key, value)
        except Exception:  # noqa: PERF203  (user code: the other loggers and the next events go on)
            log.exception("logger failed: logger=%s key=%s", type(logger).__name__, key)
