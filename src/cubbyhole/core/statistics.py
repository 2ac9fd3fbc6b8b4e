# SPDX-License-Identifier: Apache-2.0
"""Frozen records that `statistics()` and `snapshot()` return; the same words everywhere (metrics, CLI, inspector)."""

from __future__ import annotations

import msgspec


class EntrySnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """One entry as anybody sees it, without its payload."""

    id: int
    endpoint: int
    state: str
    front: int
    owner: int = -1  # the worker that holds or held it; -1: none yet
    attempt: int = 0
    rank: int = 0
    cancelled: bool = False
    deadline_ns: int = 0
    request_bytes: int = 0
    result_bytes: int = 0
    chunks: int = 0
    received_ns: int = 0
    ready_ns: int = 0
    claimed_ns: int = 0
    first_chunk_ns: int = 0
    done_ns: int = 0
    failure: str = ""
    status: int = 0  # HTTP status of its result; 0: none yet


class ChannelStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """Counters since the channel was made, and what it holds now. Bytes are payload bytes."""

    kind: str
    slots: int = 0
    slots_used: int = 0
    ready: int = 0
    claimed: int = 0
    submitted_total: int = 0
    claimed_total: int = 0
    published_total: int = 0
    chunks_total: int = 0
    failed_total: int = 0
    cancelled_total: int = 0
    reclaimed_total: int = 0
    rings_total: int = 0  # doorbells rung (system calls made to wake somebody)
    request_bytes_total: int = 0
    result_bytes_total: int = 0
    copied_bytes_total: int = 0  # payload bytes that the channel itself copied, over all processes
    expired_total: int = 0  # answered 504 without being claimed
    retried_total: int = 0  # offered again after their worker's death
    arena_bytes: int = 0
    arena_used_bytes: int = 0
    blocks_used: int = 0
