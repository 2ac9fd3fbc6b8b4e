# SPDX-License-Identifier: Apache-2.0
"""Who is there and in which state: one cell for each process, in a memfd that all processes of a server map.

It is what `/health` and the supervisor read. Each cell has a single writer (its process, or the supervisor once that process
is dead) and stands alone: no cell orders another, so plain stores of one aligned word suffice and nothing here needs a fence.
Entries are never in it; they are in the channel.

Cell, 64 bytes: state u64 | heartbeat_ns u64 | pid u64 | active requests u64 | restarts u64 | mark u64 | 2 spare
A worker's mark is "optional": the server is ready without it, too. The supervisor's is "was complete", set by any front that sees all
workers ready; it is never taken back, so who sets it does not matter.

Behind the cells: what each front rejected, by reason (`core/rejections.py`); a room for its last failures (`core/failures.py`), and
one for the deaths that the supervisor saw; and, at the very end, a text in which the server says what it is. So whoever has only
the descriptor (`/proc/<pid>/fd/<n>`, same user) can read all of it.
"""

from __future__ import annotations

import enum
import mmap
import os
import struct
import tempfile
from multiprocessing import reduction
from typing import Any

from cubbyhole.core.failures import RING_BYTES
from cubbyhole.core.rejections import REASONS, WORDS

NAME = "cubbyhole-roster"
TEXT_BYTES = (
    64 << 10
)  # a path for each endpoint, a device for each worker; touched only as far as it is used
_WORDS = 8  # 64 bytes: a cell to a cache line, so that heartbeats do not disturb each other


class ProcessState(enum.IntEnum):
    """LitServe's words for a worker's state (`WorkerSetupStatus`), and 0 for a process that was not started yet."""

    ABSENT = 0
    STARTING = 1
    READY = 2
    ERROR = 3
    FINISHED = 4
    DRAINING = 5


def anonymous_file(name: str) -> int:
    """Return a descriptor of memory that has no name in the file system, but one in `/proc/<pid>/fd`."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create(name, os.MFD_CLOEXEC)
    with tempfile.TemporaryFile() as file:  # macOS: an unlinked file
        return os.dup(file.fileno())


class Roster:
    """Cells 0..fronts-1 are fronts, then workers, then one for the supervisor (`supervisor`)."""

    def __init__(self, fd: int, fronts: int, workers: int, *, writable: bool = True) -> None:
        self.fronts = fronts
        self.workers = workers
        self._fd = fd
        access = mmap.ACCESS_WRITE if writable else mmap.ACCESS_READ
        self._map = mmap.mmap(fd, _size_bytes(fronts, workers), access=access)
        self._bytes = memoryview(self._map)
        cells_bytes = (fronts + workers + 1) * _WORDS * 8
        self._cells = self._bytes[:cells_bytes].cast("Q")
        self._failures_at = cells_bytes + fronts * WORDS * 8
        self._rejections = self._bytes[cells_bytes : self._failures_at].cast("Q")

    @classmethod
    def create(cls, fronts: int, workers: int) -> Roster:
        """Make an empty roster."""
        fd = anonymous_file(NAME)
        os.ftruncate(fd, _size_bytes(fronts, workers))
        return cls(fd, fronts, workers)

    def describe(self, text: bytes) -> None:
        """Say what the server is, at most `TEXT_BYTES` - 8 long; longer texts are left out whole."""
        if len(text) <= TEXT_BYTES - 8:
            self._bytes[-TEXT_BYTES + 8 :][: len(text)] = text
            self._bytes[-TEXT_BYTES:][:8] = struct.pack("=Q", len(text))

    def failures(self, front: int) -> memoryview:
        """Return the room for a front's last failures, `RING_BYTES`; release it before `close`."""
        start = self._failures_at + front * RING_BYTES
        return self._bytes[start : start + RING_BYTES]

    def deaths(self) -> memoryview:
        """Return the room in which the supervisor notes what workers died of; release it before `close`."""
        return self.failures(self.fronts)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (reduction.DupFd(self._fd), self.fronts, self.workers)

    @property
    def supervisor(self) -> int:
        """The supervisor's cell: its state says READY or DRAINING for the whole server."""
        return self.fronts + self.workers

    def worker_cell(self, index: int) -> int:
        """Return the cell of worker `index`."""
        return self.fronts + index

    def state(self, cell: int) -> ProcessState:
        """Read a process's state."""
        return ProcessState(self._cells[cell * _WORDS])

    def set_state(self, cell: int, state: ProcessState) -> None:
        """Say what state a process is in."""
        self._cells[cell * _WORDS] = state

    def beat(self, cell: int, now_ns: int) -> None:
        """Say that a process is alive at `now_ns`."""
        self._cells[cell * _WORDS + 1] = now_ns

    def last_beat_ns(self, cell: int) -> int:
        """Return when a process last beat, in monotonic ns; 0: never."""
        return self._cells[cell * _WORDS + 1]

    def set_pid(self, cell: int, pid: int) -> None:
        """Say which process has the cell."""
        self._cells[cell * _WORDS + 2] = pid

    def pid(self, cell: int) -> int:
        """Return the pid in a cell; 0: none."""
        return self._cells[cell * _WORDS + 2]

    def set_active(self, cell: int, count: int) -> None:
        """Say how many requests a front has open."""
        self._cells[cell * _WORDS + 3] = count

    def active_total(self) -> int:
        """Return the open requests over all fronts."""
        return sum(self._cells[cell * _WORDS + 3] for cell in range(self.fronts))

    def count_restart(self, cell: int) -> int:
        """Add one to a process's restarts and return the new count."""
        self._cells[cell * _WORDS + 4] += 1
        return self._cells[cell * _WORDS + 4]

    def restarts(self, cell: int) -> int:
        """Return how often a process was started again."""
        return self._cells[cell * _WORDS + 4]

    def count_rejection(self, front: int, reason: int) -> None:
        """Count a request that a front did not take; `reason`: `core.rejections.reason_number`."""
        self._rejections[front * WORDS + reason] += 1

    def rejections(self) -> dict[str, int]:
        """Return how many requests all fronts did not take, by reason."""
        return {
            reason: sum(self._rejections[front * WORDS + number] for front in range(self.fronts))
            for number, reason in enumerate(REASONS)
        }

    def set_optional(self, cell: int, *, optional: bool) -> None:
        """Say whether the server is ready without this worker, too: one that comes and goes with the load."""
        self._cells[cell * _WORDS + 5] = optional

    def workers_ready(self) -> bool:
        """Return whether every worker is ready that must be there, which is what `/health` asks."""
        ready, cells = ProcessState.READY, self._cells
        return self.workers > 0 and all(
            cells[at] == ready or cells[at + 5]
            for at in range(self.fronts * _WORDS, self.supervisor * _WORDS, _WORDS)
        )

    def note_complete(self) -> None:
        """Say that every worker was ready at a time."""
        self._cells[self.supervisor * _WORDS + 5] = 1

    def was_complete(self) -> bool:
        """Return whether every worker was ready at some time."""
        return self._cells[self.supervisor * _WORDS + 5] == 1

    def close(self) -> None:
        """Unmap; the memory goes when the last process did."""
        self._cells.release()
        self._rejections.release()
        self._bytes.release()
        self._map.close()
        os.close(self._fd)


def _size_bytes(fronts: int, workers: int) -> int:
    rooms_bytes = fronts * WORDS * 8 + (fronts + 1) * RING_BYTES
    return (fronts + workers + 1) * _WORDS * 8 + rooms_bytes + TEXT_BYTES


def read_description(fd: int) -> bytes:
    """Read what the server behind a roster's descriptor says that it is; empty: nothing yet, or this is no roster."""
    start = os.fstat(fd).st_size - TEXT_BYTES
    if start < 0:
        return b""
    (size_bytes,) = struct.unpack("=Q", os.pread(fd, 8, start))
    return os.pread(fd, size_bytes, start + 8) if size_bytes <= TEXT_BYTES - 8 else b""


def _rebuild(dup: Any, fronts: int, workers: int) -> Roster:
    return Roster(dup.detach(), fronts, workers)
