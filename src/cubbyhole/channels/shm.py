# SPDX-License-Identifier: Apache-2.0
"""The default channel: the dictionary of entries in a segment of shared memory.

Flow:  FrontEnd.submit -> slot (READY) -> WorkerEnd.claim -> publish -> slot (DONE) -> FrontEnd.collect
Owns:  the segment's memfd and one eventfd for each process: nothing has a name, so nothing is left behind.
See:   docs/design/segment-layout.md; `_native/cbh_dict.h` for the words and bits; decision 0002 (slot states)

The only module of the server that imports the core of the channel. It opens ports, and translates: codes of the core into errors with
numbers (`_refuse`), reasons into failures (`_explain`), tuples into records.
"""

from __future__ import annotations

import os
from multiprocessing import reduction
from typing import TYPE_CHECKING, Any, cast

import msgspec

from cubbyhole.channels.base import Capabilities, ChannelSettings
from cubbyhole.channels.past import read_finished, read_histograms
from cubbyhole.core.entries import (
    CANCELLED_BY_OPERATOR,
    POISON_AFTER,
    Chunk,
    Collected,
    EntryState,
    Failure,
    Result,
    Taken,
    poison_failure,
)
from cubbyhole.core.errors import (
    ChannelClosed,
    ChannelError,
    ChannelFull,
    EntryTooLarge,
    NativeCoreMissing,
    SlotsFull,
    StaleOwner,
    WrongLayout,
)
from cubbyhole.core.statistics import ChannelStatistics, EntrySnapshot

try:
    from cubbyhole._native import _entries, _history, _segment
except ImportError as error:  # the package imports without it; whoever needs it is told
    raise NativeCoreMissing.because(error) from error

if TYPE_CHECKING:
    from cubbyhole.channels.base import FrontPort, Role, WorkerPort
    from cubbyhole.core.history import EndpointHistograms, FinishedEntry

SLOT_GROUP = 64  # slots are given out in words of 64 bits
WARM_BYTES = 1 << 20  # faulted in at start: fresh pages cost 7 to 30 times a copy
_FLAG_CANCELLED = 1
_FLAG_EXPIRED = 4
_FLAG_DIED = 8
_FLAG_WITHDRAWN = 32
_REASONS = {
    _FLAG_WITHDRAWN: CANCELLED_BY_OPERATOR.code,
    _FLAG_EXPIRED: "expired",
    _FLAG_DIED: "worker_died",
}

ERRORS: dict[str, type[ChannelError]] = {
    "full": ChannelFull,
    "too_large": EntryTooLarge,
    "stale": StaleOwner,
    "no_place": ChannelFull,
    "wrong_layout": WrongLayout,
    "corrupt": WrongLayout,
    "system": ChannelClosed,
    "not_found": ChannelError,
    "again": ChannelFull,
}
_NAMES = {code: name for name, code in _segment.CODES.items()}
_encode_failure = msgspec.msgpack.Encoder().encode
_decode_whole_failure = msgspec.msgpack.Decoder(Failure).decode


def _decode_failure(data: bytes) -> Failure:
    """Read a failure; one that was written over is a failure all the same, and stops no front."""
    try:
        return _decode_whole_failure(data)
    except (msgspec.MsgspecError, ValueError):  # ValueError: text that is no UTF-8
        return Failure("lost", 500, message="the failure of this request is not readable")


def _refuse(code: int, size_bytes: int, entries: Any) -> ChannelError:
    """Make the error for a refusal of the core, with the numbers that explain it."""
    name = _NAMES.get(code, "corrupt")
    arena = entries.segment.arena_bytes
    if name == "full":
        used, blocks = entries.segment.usage()
        text = (
            f"No room for {size_bytes:,} bytes: {used:,} of {arena:,} bytes of the arena are in use ({blocks} blocks). "
            "Try again, add workers, or raise arena_bytes=."
        )
    elif name == "too_large":
        text = (
            f"{size_bytes:,} bytes do not fit the arena of {arena:,} bytes, the last eighth of which is for answers. "
            "Raise arena_bytes= or send a reference."
        )
    elif name == "stale":
        text = "This process was declared dead and its entries were given to others; it cannot publish any more."
    elif name == "corrupt":
        text = "The segment holds a value out of its bounds; another process has overwritten it. Restart the server."
    else:
        text = f"The channel refused ({name})."
    return ERRORS[name](text)


def _no_slot(slots: int) -> SlotsFull:
    return SlotsFull(
        f"All {slots} slots of this front are taken. Try again, add workers, or raise slots=."
    )


def _explain(reason: str, _worker: int, attempt: int) -> Failure:
    """Make the failure of an entry that no worker answered."""
    if reason == "worker_died" and attempt + 1 >= POISON_AFTER:
        return poison_failure(f"{attempt + 1} workers ended while they held it")
    if reason == "worker_died":
        return Failure(
            "worker_died",
            503,
            "The worker that ran this request ended. Try again.",
            {"Retry-After": "1"},
            f"the worker ended while it held the request (try {attempt + 1})",
        )
    if reason == "withdrawn":
        return CANCELLED_BY_OPERATOR
    if reason == "expired":
        return Failure(
            "expired", 504, "Request timed out", {}, "the deadline passed before a worker was free"
        )
    return Failure("lost", 500, message="the result is not where its slot says")


class _Words:
    """What the binding needs of the rooms above it."""

    collected = Collected
    result = Result
    chunk = Chunk
    taken = Taken
    core_error = _segment.CoreError
    refuse = staticmethod(_refuse)
    no_slot = staticmethod(_no_slot)
    explain = staticmethod(_explain)
    encode_failure = staticmethod(_encode_failure)
    decode_failure = staticmethod(_decode_failure)


class SharedMemoryChannel:
    """Entries in a memfd. See `channels.base.Channel`."""

    kind = "shm"
    capabilities = Capabilities(
        zero_copy=True,
        ranks=True,
        credit=True,
        visible=True,
        cancels_queued=True,
        in_place=True,
        history=True,
        operated=True,
    )

    def __init__(self, settings: ChannelSettings, fd: int, bells: list[int]) -> None:
        self.settings = settings
        self._fd = fd
        self._bells = bells
        self._observer: Any = None  # mapped when somebody looks
        self._past: Any = None

    @classmethod
    def create(cls, settings: ChannelSettings) -> SharedMemoryChannel:
        """Make the segment and the doorbells.

        Raises:
            ValueError: more processes than a segment has places for.
        """
        places = settings.fronts + settings.workers
        if places > _segment.PLACES:
            raise ValueError(
                f"{settings.fronts} fronts and {settings.workers} workers are {places} processes; a segment has places for "
                f"{_segment.PLACES}. Use fewer, or several servers behind a proxy."
            )
        slots = -(-settings.slots // SLOT_GROUP) * SLOT_GROUP
        body = _entries.body_bytes(settings.fronts, settings.endpoints, slots)
        parameters = (settings.fronts, settings.workers, settings.endpoints, slots)
        fd = _segment.Segment.create(_segment.KIND_ENTRIES, body, settings.arena_bytes, parameters)
        bells = [os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK) for _ in range(places)]
        return cls(settings, fd, bells)

    @classmethod
    def observe(cls, fd: int, *, fronts: int, workers: int, endpoints: int) -> SharedMemoryChannel:
        """Look at the segment of another server behind `fd`, which may be open for reading only; no port can be opened."""
        return cls(ChannelSettings(fronts=fronts, workers=workers, endpoints=endpoints), fd, [])

    @property
    def inode(self) -> int:
        """Tells this segment from another server's."""
        return os.fstat(self._fd).st_ino

    def __reduce__(self) -> tuple[Any, ...]:
        # Only valid while a child is being spawned: the descriptors travel by inheritance, never by name.
        return _rebuild, (
            self.settings,
            reduction.DupFd(self._fd),
            [reduction.DupFd(bell) for bell in self._bells],
        )

    def _open(self) -> Any:
        segment = _segment.Segment.attach(self._fd, _segment.KIND_ENTRIES)
        return _entries.Entries(segment, self._bells, _Words)

    def _look(self) -> Any:
        if self._observer is None:
            self._observer = self._open()
        return self._observer

    def _look_back(self) -> Any:
        if self._past is None:
            self._past = _history.History(self._look().segment)
        return self._past

    def _place(self, role: Role, index: int) -> int:
        return index if role == "front" else self.settings.fronts + index

    def front(self, index: int) -> FrontPort:
        """Open a front's port, in the process that uses it."""
        port = _entries.FrontEnd(self._open(), self._place("front", index))
        port.entries.segment.warm(1024, WARM_BYTES)
        return cast("FrontPort", port)

    def worker(self, index: int, endpoint: int) -> WorkerPort:
        """Open a worker's port, in the process that uses it."""
        return cast(
            "WorkerPort",
            _entries.WorkerEnd(self._open(), self._place("worker", index), endpoint),
        )

    def reclaim(self, role: Role, index: int) -> int:
        """Free what a dead process held."""
        return int(self._look().reclaim(self._place(role, index)))

    def cancel(self, request_id: int) -> bool | None:
        """Take an entry back for an operator: True, no worker will see it; False, one has it; None, it is over."""
        return cast("bool | None", self._look().withdraw(request_id))

    def rerank(self, request_id: int, rank: int) -> bool | None:
        """Give a waiting entry another rank: True, done; False, a worker has it; None, it is over."""
        return cast("bool | None", self._look().rerank(request_id, rank))

    def snapshot(self, *, past: bool = False) -> list[EntrySnapshot]:
        """Return every entry under way; `past`: also the last one of each free slot, for looking back."""
        return [_snapshot(row, self.settings.fronts) for row in self._look().snapshot(past)]

    def find(self, request_id: int) -> EntrySnapshot | None:
        """Return one entry by its id, under way or just over, from any process and without a lock."""
        row = self._look().find(request_id)
        return None if row is None else _snapshot(row, self.settings.fronts)

    def histograms(self) -> list[EndpointHistograms]:
        """Return how long the requests of each endpoint were in each phase, and how large they were."""
        past = self._look_back()
        return [read_histograms(past, _history, n) for n in range(self.settings.endpoints)]

    def history(self, most: int | None = None) -> list[FinishedEntry]:
        """Return the last entries that are over, oldest first: `most` of them, or all that are kept, failures longer."""
        return read_finished(self._look_back(), self.settings.fronts, most)

    def contents(self, request_id: int, limit_bytes: int) -> tuple[Any, ...] | None:
        """Copy what an entry holds, as `Entries.contents` of the core gives it; None: it holds nothing (any more)."""
        found: tuple[Any, ...] | None = self._look().contents(request_id, limit_bytes)
        return found

    def statistics(self) -> ChannelStatistics:
        """Return counters over all processes, and what is held now."""
        look = self._look()
        n = look.counters()
        states = [row[2] for row in look.snapshot()]
        used_bytes, blocks = look.segment.usage()
        return ChannelStatistics(
            kind=self.kind,
            slots=look.segment.parameters()[3] * self.settings.fronts,
            slots_used=len(states),
            ready=states.count(EntryState.READY),
            claimed=states.count(EntryState.CLAIMED) + states.count(EntryState.STREAMING),
            submitted_total=n[0],
            claimed_total=n[1],
            published_total=n[2],
            chunks_total=n[3],
            failed_total=n[4],
            cancelled_total=n[5],
            reclaimed_total=n[6],
            rings_total=n[7],
            request_bytes_total=n[8],
            result_bytes_total=n[9],
            copied_bytes_total=n[10],
            expired_total=n[11],
            retried_total=n[12],
            arena_bytes=look.segment.arena_bytes,
            arena_used_bytes=used_bytes,
            blocks_used=blocks,
        )

    def close(self) -> None:
        """Close this process's descriptors; the memory goes with the last process that maps it."""
        self._observer = self._past = None
        for fd in (self._fd, *self._bells):
            os.close(fd)
        self._fd, self._bells = -1, []


def _rebuild(settings: ChannelSettings, fd: Any, bells: list[Any]) -> SharedMemoryChannel:
    return SharedMemoryChannel(settings, fd.detach(), [bell.detach() for bell in bells])


def _snapshot(row: tuple[int, ...], fronts: int) -> EntrySnapshot:
    state, flags, place = EntryState(row[2]), row[3], row[4]
    return EntrySnapshot(
        id=row[0],
        endpoint=row[1],
        state=state.name,
        front=row[5],
        owner=place - fronts if place >= fronts and state >= EntryState.CLAIMED else -1,
        attempt=row[6],
        rank=row[7],
        cancelled=bool(flags & (_FLAG_CANCELLED | _FLAG_WITHDRAWN)),
        deadline_ns=row[8],
        request_bytes=row[9],
        result_bytes=row[10],
        chunks=row[11],
        received_ns=row[12],
        ready_ns=row[13],
        claimed_ns=row[14],
        first_chunk_ns=row[15],
        done_ns=row[16],
        failure=next((name for flag, name in _REASONS.items() if flags & flag), ""),
        status=row[17],
    )
