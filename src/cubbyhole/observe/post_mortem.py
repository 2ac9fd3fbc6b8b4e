# SPDX-License-Identifier: Apache-2.0
"""The last state of a server in a file, for after a crash of everything: the memory that holds it goes with its last process.

Written by the supervisor, once a second while something changes, at once when a process was lost, and at its own end. Each time
whole, into a file beside it that then takes its name, so that a reader never sees half of one, whenever the power of kill -9 strikes.
JSON, no code in it, mode 0600, and no payloads: what entries are, not what they carry. (A failure's message and traceback are in it;
an exception's text is what user code made it.)

Flow:  Pool.turn -> **PostMortem.look** -> the file -> **read_post_mortem** -> cubbyhole requests --file, inspect --file
Owns:  the file.
See:   docs/guide/seeing.md
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from cubbyhole.core.clock import now_ns
from cubbyhole.core.errors import CubbyholeError
from cubbyhole.core.failures import FailureRecord, read_failures
from cubbyhole.core.history import FinishedEntry  # noqa: TC001  (msgspec reads it)
from cubbyhole.core.statistics import ChannelStatistics, EntrySnapshot  # noqa: TC001  (msgspec reads it)
from cubbyhole.observe.description import ServerDescription  # noqa: TC001  (msgspec reads it)

if TYPE_CHECKING:
    from cubbyhole.channels.base import Channel
    from cubbyhole.core.roster import Roster

logger = logging.getLogger(__name__)

FORMAT = 1
EVERY_NS = 1_000_000_000
KEPT_PAST = 200  # requests that are over, the last of them
WARN_EVERY_NS = 60_000_000_000


class RecordedProcess(msgspec.Struct, frozen=True, kw_only=True):
    """A cell of the roster."""

    role: str
    index: int
    state: str
    pid: int
    last_beat_ns: int
    restarts: int


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """A server at one moment.

    Attributes:
        format: Of this record.
        cause: Why it was written: "running", "process lost", or how the server ended.
        written_at_s: Seconds since 1970.
        time_ns: The same moment on the monotonic clock, to which all other times belong.
        entries: Those under way, oldest first.
        finished: The last ones that are over, oldest first.
        deaths: Which workers ended while they held which entry, oldest first.
    """

    format: int
    cause: str
    written_at_s: float
    time_ns: int
    description: ServerDescription
    processes: list[RecordedProcess]
    entries: list[EntrySnapshot]
    finished: list[FinishedEntry]
    failures: list[FailureRecord]
    statistics: ChannelStatistics
    deaths: list[FailureRecord] = []


class NoRecord(CubbyholeError):
    """A file is not what a server wrote."""

    code = "no_record"


_decode = msgspec.json.Decoder(Recorded).decode


class PostMortem:
    """Keeps the file of one server.

    Args:
        path: Of the file.
        description, channel, roster: The server's.
    """

    def __init__(
        self, path: str, description: ServerDescription, channel: Channel, roster: Roster
    ) -> None:
        self._path = Path(path)
        self._description = description
        self._channel = channel
        self._roster = roster
        self._written_ns = 0
        self._warned_ns = 0
        self._pids: list[int] = []
        self._seen: tuple[object, ...] = ()
        self._over = False

    def finish(self, cause: str) -> None:
        """Write for the last time: how the server ended."""
        self.write(cause)
        self._over = True

    def descriptors(self) -> list[int]:
        """Nothing to wait for."""
        return []

    def turn(self) -> None:
        """Write if something changed; called whenever the supervisor turns (`supervise.place.Ear`)."""
        if self._over:
            return
        roster = self._roster
        pids = [roster.pid(cell) for cell in range(roster.supervisor)]
        lost = any(old and old != new for old, new in zip(self._pids, pids, strict=False))
        self._pids = pids
        time_ns = now_ns()
        if not lost and time_ns - self._written_ns < EVERY_NS:
            return
        statistics = self._channel.statistics()
        states = tuple(roster.state(cell) for cell in range(roster.supervisor + 1))
        seen = (statistics, states, *pids)
        if seen != self._seen:
            self._seen = seen
            self.write("process lost" if lost else "running", statistics)

    def write(self, cause: str, statistics: ChannelStatistics | None = None) -> None:
        """Write now. A disk that refuses is a warning, not the end of the server."""
        self._written_ns = now_ns()
        record = self._record(cause, statistics or self._channel.statistics())
        beside = self._path.with_name(f"{self._path.name}.{os.getpid()}.tmp")
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
            fd = os.open(beside, flags, 0o600)
            with os.fdopen(fd, "wb") as file:
                file.write(msgspec.json.encode(record))
            beside.replace(self._path)
        except OSError as error:
            with contextlib.suppress(OSError):
                beside.unlink()
            if self._written_ns - self._warned_ns > WARN_EVERY_NS:
                self._warned_ns = self._written_ns
                logger.warning("post mortem not written: path=%s error=%s", self._path, error)

    def _record(self, cause: str, statistics: ChannelStatistics) -> Recorded:
        roster = self._roster
        failures: list[FailureRecord] = []
        for front in range(roster.fronts):
            with roster.failures(front) as ring:
                failures += read_failures(ring)
        with roster.deaths() as ring:
            deaths = read_failures(ring)
        return Recorded(
            format=FORMAT,
            cause=cause,
            written_at_s=time.time(),
            time_ns=now_ns(),
            description=self._description,
            processes=[_process(roster, cell) for cell in range(roster.supervisor + 1)],
            entries=sorted(self._channel.snapshot(), key=lambda one: one.received_ns),
            finished=_finished(self._channel),
            failures=sorted(failures, key=lambda one: one.failed_ns),
            statistics=statistics,
            deaths=deaths,
        )


def _finished(channel: Channel) -> list[FinishedEntry]:
    history = getattr(channel, "history", None)  # of channels in shared memory
    return [] if history is None else history()[-KEPT_PAST:]


def _process(roster: Roster, cell: int) -> RecordedProcess:
    role, index = "front", cell
    if cell == roster.supervisor:
        role, index = "supervisor", 0
    elif cell >= roster.fronts:
        role, index = "worker", cell - roster.fronts
    return RecordedProcess(
        role=role,
        index=index,
        state=roster.state(cell).name.lower(),
        pid=roster.pid(cell),
        last_beat_ns=roster.last_beat_ns(cell),
        restarts=roster.restarts(cell),
    )


def read_post_mortem(path: Path) -> Recorded:
    """Read a file that a server wrote.

    Raises:
        NoRecord: it cannot be read, or is something else.
    """
    try:
        return _decode(path.read_bytes())
    except OSError as error:
        raise NoRecord(f"{path} cannot be read: {error.strerror}.") from error
    except msgspec.DecodeError as error:
        raise NoRecord(
            f"{path} is not a post mortem of this version of Cubbyhole: {error}."
        ) from error
