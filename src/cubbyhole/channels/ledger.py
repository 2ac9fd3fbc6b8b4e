# SPDX-License-Identifier: Apache-2.0
"""Counters, lives and entry rows of a channel, in one anonymous file that all its processes map.

It is for channels whose entries live in the fronts: it makes them visible from outside and carries
the few words that must be readable at any moment (was this process declared dead, does anybody
still wait). It decides nothing: who owns an entry is decided by its front alone. So each word has
one writer (its process, or the supervisor once that process is dead), no word orders another, and
plain stores of aligned words suffice; a row that is read while it changes is at worst a mixed
picture.

Words, each a u64:
    cells     fronts, then workers: BORN | RECLAIMED | counters and gauges (`Word`)
    hints     fronts x endpoints: how many entries wait there
    lost      fronts x workers: entries that a front took from a vanished worker by itself
    held      fronts x workers: entries of a front that a worker holds now
    counted   workers: how many of `lost` a reclaim has told already
    rows      fronts x slots: one entry each (`Field`), then 32 bytes of failure code

Flow:  supervisor create -> (descriptor) -> fronts write rows and counters, workers read `cancelled`
       and RECLAIMED -> anybody reads
Owns:  the anonymous file and its mapping.
"""

from __future__ import annotations

import enum
import mmap
import os
import struct
import tempfile
from multiprocessing import reduction
from typing import TYPE_CHECKING, Any

from cubbyhole.core.clock import NEVER_NS, now_ns
from cubbyhole.core.entries import EntryState
from cubbyhole.core.statistics import ChannelStatistics, EntrySnapshot

if TYPE_CHECKING:
    from cubbyhole.channels.base import ChannelSettings, Role

MASK = (1 << 64) - 1
_CELL_WORDS = 24  # 192 bytes: three cache lines, shared with no other process's counters
_ROW_WORDS = 20
_ROW = struct.Struct("=16Q32s")


class Word(enum.IntEnum):
    """Words of a process's cell."""

    BORN = 0  # monotonic ns at which the port was opened: names this life of the process
    RECLAIMED = 1  # BORN of the life that was declared dead
    SUBMITTED = 2
    CLAIMED = 3
    PUBLISHED = 4
    CHUNKS = 5
    FAILED = 6
    CANCELLED = 7
    TAKEN_BACK = 8
    RINGS = 9
    REQUEST_BYTES = 10
    RESULT_BYTES = 11
    COPIED_BYTES = 12
    USED = 13  # from here on: gauges, zero once the process is gone
    READY = 14
    HELD = 15
    ARENA_USED = 16


class Field(enum.IntEnum):
    """Words of an entry's row."""

    ID = 0
    STATE = 1
    ENDPOINT = 2
    OWNER = 3  # worker + 1
    ATTEMPT = 4
    RANK = 5
    CANCELLED = 6  # the id of the entry, once nobody waits for it
    DEADLINE = 7
    REQUEST_BYTES = 8
    RESULT_BYTES = 9
    CHUNKS = 10
    RECEIVED = 11
    READY = 12
    CLAIMED = 13
    FIRST_CHUNK = 14
    DONE = 15
    FAILURE = 16


def _anonymous_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("cubbyhole-ledger", os.MFD_CLOEXEC)
    with tempfile.TemporaryFile() as file:  # macOS: an unlinked file
        return os.dup(file.fileno())


class Ledger:
    """The mapping. `words` is the whole of it as u64; use the `*_at` methods once and keep the number."""

    def __init__(self, fd: int, settings: ChannelSettings, shown: bool) -> None:
        self.settings = settings
        self.shown = shown  # else the rows carry nothing but `cancelled`
        self._fd = fd
        self._hints = (settings.fronts + settings.workers) * _CELL_WORDS
        self._lost = self._hints + settings.fronts * settings.endpoints
        self._held = self._lost + settings.fronts * settings.workers
        self._counted = self._held + settings.fronts * settings.workers
        self._rows = self._counted + settings.workers
        self._map = mmap.mmap(fd, (self._rows + settings.fronts * settings.slots * _ROW_WORDS) * 8)
        self.words = memoryview(self._map).cast("Q")

    @classmethod
    def create(cls, settings: ChannelSettings, *, shown: bool) -> Ledger:
        """Make an empty ledger."""
        words = (
            (settings.fronts + settings.workers) * _CELL_WORDS
            + settings.fronts * (settings.endpoints + 2 * settings.workers)
            + settings.workers
            + settings.fronts * settings.slots * _ROW_WORDS
        )
        fd = _anonymous_file()
        os.ftruncate(fd, words * 8)
        return cls(fd, settings, shown)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (reduction.DupFd(self._fd), self.settings, self.shown)

    # Where things are
    # -----------------------------------------------------------------------------------------

    def cell_at(self, role: Role, index: int) -> int:
        """Return the first word of a process's cell.

        Raises:
            IndexError: there is no such process in this channel.
        """
        count = self.settings.fronts if role == "front" else self.settings.workers
        if not 0 <= index < count:
            raise IndexError(
                f"{role} {index}: this channel has places for {count}, 0 to {count - 1}."
            )
        return (index if role == "front" else self.settings.fronts + index) * _CELL_WORDS

    def hint_at(self, front: int, endpoint: int) -> int:
        """Return the word that says how many entries wait in a front for an endpoint."""
        return self._hints + front * self.settings.endpoints + endpoint

    def lost_at(self, front: int, worker: int) -> int:
        """Return the word that counts what a front took from a vanished worker."""
        return self._lost + front * self.settings.workers + worker

    def held_at(self, front: int, worker: int) -> int:
        """Return the word that says how many entries of a front a worker holds."""
        return self._held + front * self.settings.workers + worker

    def row_at(self, front: int, slot: int) -> int:
        """Return the first word of an entry's row."""
        return self._rows + (front * self.settings.slots + slot) * _ROW_WORDS

    # Lives --------------------------------------------------------------------------------------
    # --------------

    def begin_life(self, role: Role, index: int) -> int:
        """Say that a process opened its port; returns the name of this life."""
        cell = self.cell_at(role, index)
        born = max(now_ns(), self.words[cell] + 1)
        self.words[cell + Word.USED : cell + _CELL_WORDS] = memoryview(
            bytes(8 * (_CELL_WORDS - Word.USED))
        ).cast("Q")
        self.words[cell + Word.BORN] = born
        return born

    def is_reclaimed(self, cell: int, born: int) -> bool:
        """Return whether this life was declared dead."""
        return self.words[cell + Word.RECLAIMED] >= born

    def reclaim(self, role: Role, index: int) -> int:
        """Declare a life dead; returns how many entries that concerns, 0 when repeated."""
        cell = self.cell_at(role, index)
        words = self.words
        fresh = words[cell + Word.RECLAIMED] != words[cell + Word.BORN]
        words[cell + Word.RECLAIMED] = words[cell + Word.BORN]
        if role == "front":
            return self._clear_front(index) if fresh else 0
        fronts = range(self.settings.fronts)
        told = self._counted + index
        total = sum(words[self.lost_at(front, index)] for front in fronts)
        count = total - words[told]
        words[told] = total
        if fresh:
            # The fronts find these themselves, and because the life is over by then they do not
            # count them as lost.
            count += sum(words[self.held_at(front, index)] for front in fronts)
        return count

    def _clear_front(self, index: int) -> int:
        words = self.words
        cell = self.cell_at("front", index)
        count = words[cell + Word.USED]
        for row in self._rows_of(index):
            words[row + Field.STATE] = EntryState.FREE
            words[row + Field.CANCELLED] = 0
        for worker in range(self.settings.workers):
            words[self.held_at(index, worker)] = 0
        words[cell + Word.TAKEN_BACK] += count
        for gauge in range(Word.USED, _CELL_WORDS):
            words[cell + gauge] = 0
        for endpoint in range(self.settings.endpoints):
            words[self.hint_at(index, endpoint)] = 0
        return count

    def _rows_of(self, front: int) -> range:
        start = self.row_at(front, 0)
        return range(start, start + self.settings.slots * _ROW_WORDS, _ROW_WORDS)

    # What anybody may read
    # ------------------------------------------------------------------------------------

    def write_row(self, row: int, values: tuple[int, ...]) -> None:
        """Write the sixteen words of a new entry, in the order of `Field`."""
        _ROW.pack_into(self._map, row * 8, *values, b"")

    def write_failure(self, row: int, code: str) -> None:
        """Write why an entry failed."""
        text = code.encode()[:32]
        start = (row + Field.FAILURE) * 8
        self._map[start : start + 32] = text.ljust(32, b"\0")

    def snapshot(self) -> list[EntrySnapshot]:
        """Return every entry that is under way, as its row shows it."""
        entries = []
        for front in range(self.settings.fronts):
            for row in self._rows_of(front):
                if self.words[row + Field.STATE]:
                    entries.append(self._entry(front, row))  # noqa: PERF401
        return entries

    def _entry(self, front: int, row: int) -> EntrySnapshot:
        values = _ROW.unpack_from(self._map, row * 8)
        return EntrySnapshot(
            id=values[Field.ID],
            endpoint=values[Field.ENDPOINT],
            state=EntryState(values[Field.STATE]).name,
            front=front,
            owner=values[Field.OWNER] - 1,
            attempt=values[Field.ATTEMPT],
            rank=values[Field.RANK],
            cancelled=values[Field.CANCELLED] == values[Field.ID],
            deadline_ns=min(values[Field.DEADLINE], NEVER_NS),
            request_bytes=values[Field.REQUEST_BYTES],
            result_bytes=values[Field.RESULT_BYTES],
            chunks=values[Field.CHUNKS],
            received_ns=values[Field.RECEIVED],
            ready_ns=values[Field.READY],
            claimed_ns=values[Field.CLAIMED],
            first_chunk_ns=values[Field.FIRST_CHUNK],
            done_ns=values[Field.DONE],
            failure=values[Field.FAILURE].rstrip(b"\0").decode(errors="replace"),
        )

    def statistics(self, kind: str) -> ChannelStatistics:
        """Return the sums over all processes."""
        cells = range(0, self._hints, _CELL_WORDS)
        words = self.words

        def total(word: Word) -> int:
            return sum(words[cell + word] for cell in cells)

        return ChannelStatistics(
            kind=kind,
            slots=self.settings.fronts * self.settings.slots,
            slots_used=total(Word.USED),
            ready=total(Word.READY),
            claimed=total(Word.HELD),
            submitted_total=total(Word.SUBMITTED),
            claimed_total=total(Word.CLAIMED),
            published_total=total(Word.PUBLISHED),
            chunks_total=total(Word.CHUNKS),
            failed_total=total(Word.FAILED),
            cancelled_total=total(Word.CANCELLED),
            reclaimed_total=total(Word.TAKEN_BACK),
            rings_total=total(Word.RINGS),
            request_bytes_total=total(Word.REQUEST_BYTES),
            result_bytes_total=total(Word.RESULT_BYTES),
            copied_bytes_total=total(Word.COPIED_BYTES),
            arena_bytes=self.settings.arena_bytes * self.settings.fronts,
            arena_used_bytes=total(Word.ARENA_USED),
        )

    def close(self) -> None:
        """Unmap in this process; the memory goes with the last one."""
        self.words.release()
        self._map.close()
        os.close(self._fd)


def _rebuild(dup: Any, settings: ChannelSettings, shown: bool) -> Ledger:
    return Ledger(dup.detach(), settings, shown)
