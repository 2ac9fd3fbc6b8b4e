# SPDX-License-Identifier: Apache-2.0
"""Signals, and the orderly end: finish what is accepted, accept nothing.

Flow:  SIGTERM -> SignalPipe (a byte wakes the pool's wait) -> drain(): readiness 503 -> fronts finish -> workers end
Owns:  the signal handlers of the supervisor while it serves.

Workers outlive the fronts: they have what accepted requests wait for. A worker that dies meanwhile is still replaced.
"""

from __future__ import annotations

import logging
import os
import select
import signal
from typing import TYPE_CHECKING, Any

from cubbyhole.core.clock import now_ns
from cubbyhole.core.roster import ProcessState

if TYPE_CHECKING:
    from collections.abc import Callable

    from cubbyhole.channels.base import Role
    from cubbyhole.core.roster import Roster
    from cubbyhole.supervise.pool import Pool

logger = logging.getLogger(__name__)

FRONT_MARGIN_S = 2.0  # fronts bound themselves by the drain time-out; this is for their own exit
WORKER_EXIT_S = 5.0


class SignalPipe:
    """SIGTERM, SIGINT and SIGHUP as bytes in a pipe, so that one wait serves deaths and signals. Other ways in: `stop`."""

    def __init__(self) -> None:
        self._read_fd, self._write_fd = (
            os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC) if hasattr(os, "pipe2") else _nonblocking_pipe()
        )
        self._outer_fd: int | None = None
        self._before: dict[signal.Signals, Any] = {}
        self._wakeup_before = -1
        self.causes: list[str] = []
        self._hung_up = False
        self._had_terminal = False

    def install(self) -> None:
        """Take SIGTERM and SIGINT. Main thread only. As PID 1 these have no default action, so this is needed there."""
        self._wakeup_before = signal.set_wakeup_fd(self._write_fd, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, self._note)
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # else it is under nohup
            self._had_terminal = _has_terminal()
            self._before[signal.SIGHUP] = signal.signal(signal.SIGHUP, self._hang_up)

    def restore(self) -> None:
        """Put the former handlers back."""
        if self._before:
            signal.set_wakeup_fd(self._wakeup_before)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def stop(self, cause: str) -> None:
        """Ask for a drain from any thread."""
        self.causes.append(cause)
        os.write(self._write_fd, b"\0")

    def follow(self, fd: int) -> None:
        """Ask for a drain, too, when `fd` becomes readable: the end of a pipe from whoever started this server."""
        os.set_inheritable(fd, False)
        self._outer_fd = fd

    def descriptors(self) -> list[int]:
        """Return what to wait for."""
        return [self._read_fd] if self._outer_fd is None else [self._read_fd, self._outer_fd]

    def clear(self) -> bool:
        """Look what came, and make the descriptors quiet again. True: SIGHUP, which asks for new workers."""
        if self._outer_fd is not None and select.select([self._outer_fd], [], [], 0)[0]:
            os.close(self._outer_fd)
            self._outer_fd = None
            self.causes.append("parent_gone")
        try:
            while os.read(self._read_fd, 4096):
                pass
        except BlockingIOError:
            pass
        hung_up, self._hung_up = self._hung_up, False
        return hung_up

    def close(self) -> None:
        """Close the pipe, after `restore`."""
        os.close(self._read_fd)
        os.close(self._write_fd)
        if self._outer_fd is not None:
            os.close(self._outer_fd)

    def _note(self, number: int, _frame: object) -> None:
        self.causes.append(signal.Signals(number).name)

    def _hang_up(self, _number: int, _frame: object) -> None:
        if self._had_terminal and not _has_terminal():
            self.causes.append("terminal_gone")  # its window was closed: that is what SIGHUP is for
        else:
            self._hung_up = True


def drain(
    pool: Pool,
    roster: Roster,
    signals: SignalPipe,
    *,
    timeout_s: float,
    stop_listening: Callable[[], None],
    in_flight: Callable[[], int],
) -> None:
    """End everything in order; returns when no child is left.

    Args:
        pool: The children, fronts and workers.
        roster: Its supervisor's cell turns to DRAINING, which makes readiness 503.
        signals: A further signal while it drains means: now.
        timeout_s: How long accepted requests may go on.
        stop_listening: Closes the supervisor's copies of the listening sockets.
        in_flight: How many entries are under way, for the log.
    """
    cause = signals.causes[0] if signals.causes else "failure"
    asked = len(signals.causes)
    roster.set_state(roster.supervisor, ProcessState.DRAINING)
    logger.info("draining: in_flight=%d deadline_s=%.1f cause=%s", in_flight(), timeout_s, cause)
    started_ns = now_ns()
    stop_listening()

    def end(role: Role, patience_s: float) -> None:
        pool.retire(role)
        deadline_ns = now_ns() + int(patience_s * 1e9)
        killed = False
        while pool.alive(role):
            hurried = len(signals.causes) > asked
            left_s = (deadline_ns - now_ns()) / 1e9
            if not killed and (hurried or left_s <= 0):
                pool.kill(role)
                killed = True
            pool.turn(signals.descriptors(), at_most_s=1.0 if killed else max(0.0, left_s))
            signals.clear()

    end("front", timeout_s + FRONT_MARGIN_S)
    end("worker", WORKER_EXIT_S)
    logger.info("drained: elapsed_ms=%d", (now_ns() - started_ns) // 1_000_000)


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def _nonblocking_pipe() -> tuple[int, int]:
    read_fd, write_fd = os.pipe()
    os.set_blocking(read_fd, False)
    os.set_blocking(write_fd, False)
    return read_fd, write_fd
