# SPDX-License-Identifier: Apache-2.0
"""Time limits that need more than a deadline: of waiting, of running, of sending a request.

Flow:  exchange.py's sweep -> **PartTimes.overdue**;  lane.py -> exchange -> **Readers**;
       front/main.py, once a second -> **SlowHeaders**, **SlowReaders**
Owns:  who reads a body now, and since when a connection has not sent a whole head or not taken its answer.
See:   docs/reliability.md

None of this costs a timer per request: one sweep looks at all, as it does for deadlines.
"""

from __future__ import annotations

import math
import socket
import struct
from typing import TYPE_CHECKING, Any

from cubbyhole.core.clock import NEVER_NS
from cubbyhole.core.entries import EntryState, Failure
from cubbyhole.core.errors import CubbyholeError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable

    from cubbyhole.core.statistics import EntrySnapshot
    from cubbyhole.front.exchange import Waiter

QUEUE_EXPIRED = Failure("queue_timeout", 504, "Request timed out while it waited for a worker")
EXECUTION_EXPIRED = Failure("execution_timeout", 504, "Request timed out while it ran")


SLOWEST_BYTES_PER_S = 1024  # of a client that takes its answer; a modem of 1990 was faster
_DO_NOT_LINGER = struct.pack("ii", 1, 0)


class BodyTooSlow(CubbyholeError):
    """A client sends its request too slowly."""

    code = "receive_timeout"
    status = 408


class PartTimes:
    """How long a request may wait and how long it may run, apart.

    Args:
        queue_s, execution_s: Seconds; inf: no limit.
        snapshot: `Channel.snapshot`; asked only when a request is old enough to be over one of them.
    """

    def __init__(
        self, queue_s: float, execution_s: float, snapshot: Callable[[], list[EntrySnapshot]]
    ) -> None:
        self._queue_ns = _nanoseconds(queue_s)
        self._execution_ns = _nanoseconds(execution_s)
        self._least_ns = min(self._queue_ns, self._execution_ns)
        self._snapshot = snapshot

    def overdue(self, waiters: Iterable[Waiter], now_ns: int) -> list[tuple[int, Failure]]:
        """Return the ids of requests that are over a limit, and which one."""
        old = {
            waiter.id: waiter for waiter in waiters if waiter.since_ns + self._least_ns <= now_ns
        }
        if not old:
            return []
        found: list[tuple[int, Failure]] = []
        for entry in self._snapshot():
            waiter = old.get(entry.id)
            if waiter is None:
                continue
            state = entry.state.upper()
            if state == EntryState.READY.name and waiter.since_ns + self._queue_ns <= now_ns:
                found.append((entry.id, QUEUE_EXPIRED))
            # Streams that flow are STREAMING; how long they may flow is their reader's matter.
            running = state == EntryState.CLAIMED.name and entry.claimed_ns > 0
            if running and entry.claimed_ns + self._execution_ns <= now_ns:
                found.append((entry.id, EXECUTION_EXPIRED))
        return found


class Readers:
    """Tasks that read a request's body, each with the time by which it must be there."""

    def __init__(self) -> None:
        self._until_ns: dict[asyncio.Task[Any], int] = {}
        self._cut: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        return len(self._until_ns)

    def add(self, task: asyncio.Task[Any], until_ns: int) -> None:
        """`task` begins to read."""
        self._until_ns[task] = until_ns

    def remove(self, task: asyncio.Task[Any]) -> None:
        """`task` has read, or given up."""
        del self._until_ns[task]

    def cut(self, now_ns: int) -> None:
        """Cancel those whose time is over."""
        for task, until_ns in self._until_ns.items():
            if until_ns <= now_ns and task not in self._cut:
                self._cut.add(task)
                task.cancel()

    def was_cut(self, task: asyncio.Task[Any]) -> bool:
        """Whether `cut` is why `task` was cancelled; it goes on as if it had not been."""
        if task not in self._cut:
            return False
        self._cut.discard(task)
        if hasattr(task, "uncancel"):  # Python 3.11
            task.uncancel()
        return True


class SlowHeaders:
    """Closes connections that do not get a request's head across, as a slow or malicious client's.

    uvicorn bounds how long a connection may be idle between requests, but not how long a head may take.

    Args:
        limit_s: Seconds for a head; inf: no limit.
    """

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._since: dict[Any, tuple[Any, float]] = {}  # connection -> (its last request, when)

    def look(self, connections: Iterable[Any], now_s: float) -> int:
        """Look at all connections; returns how many were closed."""
        waiting: dict[Any, tuple[Any, float]] = {}
        closed = 0
        for connection in tuple(connections):
            last = getattr(connection, "cycle", None)
            busy = last is not None and not last.response_complete
            if busy or getattr(connection, "timeout_keep_alive_task", None) is not None:
                continue  # answers, or idle between two requests, for which uvicorn has a limit
            seen, since_s = self._since.get(connection, (last, now_s))
            if seen is not last:
                since_s = now_s
            if now_s - since_s >= self._limit_s and connection.transport is not None:
                connection.transport.close()
                closed += 1
            else:
                waiting[connection] = (last, since_s)
        self._since = waiting
        return closed


class SlowReaders:
    """Ends connections whose client does not take its answer, and with them what the answer holds of the segment.

    A connection's window begins when something of it cannot be sent, and again whenever as much was taken as `SLOWEST_BYTES_PER_S`
    asks for, or more was written: a stream is written to only as far as its reader has taken the last chunks. One that does not
    come that far within the limit is ended.

    Args:
        limit_s: Seconds of a window; inf: no limit.
    """

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        # connection -> (bytes to send when the window began, and at the last look, since when)
        self._windows: dict[Any, tuple[int, int, float]] = {}

    def look(self, connections: Iterable[Any], now_s: float) -> int:
        """Look at all connections; returns how many were ended."""
        windows: dict[Any, tuple[int, int, float]] = {}
        ended = 0
        for connection in tuple(connections):
            transport = connection.transport
            left_bytes = 0 if transport is None else transport.get_write_buffer_size()
            if left_bytes == 0:
                continue
            first_bytes, last_bytes, since_s = self._windows.get(
                connection, (left_bytes, left_bytes, now_s)
            )
            taken_bytes = first_bytes - left_bytes
            if left_bytes > last_bytes or taken_bytes >= SLOWEST_BYTES_PER_S * self._limit_s:
                first_bytes, since_s = left_bytes, now_s
            if now_s - since_s >= self._limit_s:
                _reset(transport)
                ended += 1
            else:
                windows[connection] = (first_bytes, left_bytes, since_s)
        self._windows = windows
        return ended


def _reset(transport: Any) -> None:
    """End a connection with all that is still to be sent, in the kernel's buffers as well as in ours."""
    sock = transport.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _DO_NOT_LINGER)
    transport.abort()


def _nanoseconds(seconds: float) -> int:
    return NEVER_NS // 2 if math.isinf(seconds) else int(seconds * 1e9)
