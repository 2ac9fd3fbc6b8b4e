# SPDX-License-Identifier: Apache-2.0
"""What `SharedDict.snapshot()` and `SharedDict.statistics()` return."""

from __future__ import annotations

import msgspec


class KeySnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """One key as it was seen, without its value."""

    key: str
    kind: str  # bytes, str, plain, array, scalar, buffer, pickle
    size_bytes: int  # of the value as it lies in the segment
    age_s: float
    writer_pid: int  # the process that stored it; it may be gone
    holder_pids: tuple[int, ...]  # processes that look at the value now


class DictionarySnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """All keys. Each bucket is seen at one moment, different buckets at different ones."""

    keys: tuple[KeySnapshot, ...]
    busy_buckets: int = 0  # could not be seen: a writer was in them all the time that we looked


class DictionaryStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """What the dictionary holds now, and counters over all processes since it was made."""

    keys: int
    buckets: int
    segment_bytes: int
    arena_bytes: int
    used_bytes: int  # of the arena, in blocks that are linked or looked at
    used_blocks: int
    places: int
    places_taken: int
    gets: int
    hits: int
    sets: int
    deletes: int
    retries: int  # looks of readers that a writer disturbed
    lock_waits: int
    steals: int  # locks taken over from dead processes
    mended: int  # changes of dead writers brought to an end
    wakes: int
