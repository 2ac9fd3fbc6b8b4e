# SPDX-License-Identifier: Apache-2.0
"""Waiting for keys, in threads and in coroutines; looking in without a lock."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from cubbyhole import SharedDict
from cubbyhole.core.errors import SegmentClosed

if TYPE_CHECKING:
    from collections.abc import Callable


def test_wait_returns_what_is_there_at_once(d: SharedDict) -> None:
    d["k"] = None
    assert d.wait("k", timeout_s=0) is None


def test_wait_times_out_with_numbers(d: SharedDict) -> None:
    start = time.monotonic()
    with pytest.raises(TimeoutError, match=r"'k' was not stored within 0\.05 s"):
        d.wait("k", timeout_s=0.05)
    assert time.monotonic() - start >= 0.05


def test_wait_wakes_when_another_stores_the_key(d: SharedDict) -> None:
    found: list[int] = []
    waiters = [
        threading.Thread(target=lambda: found.append(d.wait("k", timeout_s=10))) for _ in range(4)
    ]
    for waiter in waiters:
        waiter.start()
    with SharedDict.attach(os.getpid(), d.fileno()) as other:
        other["not k"] = 1
        other["k"] = 7
    for waiter in waiters:
        waiter.join()
    assert found == [7] * 4


def test_a_wake_up_does_not_wait_for_the_next_look(d: SharedDict) -> None:
    """A round trip by wait() is far below the half second after which a lost wake-up would be noticed."""

    def echo() -> None:
        for number in range(200):
            d[f"answer{number}"] = d.wait(f"question{number}", timeout_s=5)

    thread = threading.Thread(target=echo)
    thread.start()
    start = time.monotonic()
    for number in range(200):
        d[f"question{number}"] = number
        assert d.wait(f"answer{number}", timeout_s=5) == number
    thread.join()
    assert time.monotonic() - start < 5


async def test_wait_async_wakes_many_coroutines(d: SharedDict) -> None:
    with SharedDict.attach(os.getpid(), d.fileno()) as other:
        waiting = [asyncio.create_task(d.wait_async(f"k{n}", timeout_s=10)) for n in range(50)]
        await asyncio.sleep(0)
        for number in range(50):
            await asyncio.to_thread(other.__setitem__, f"k{number}", np.full(3, number))
        found = await asyncio.gather(*waiting)
    assert [int(view[0]) for view in found] == list(range(50))


async def test_wait_async_returns_what_is_there_and_times_out(d: SharedDict) -> None:
    d["k"] = 1
    assert await d.wait_async("k") == 1
    with pytest.raises(TimeoutError, match="'other' was not stored within"):
        await d.wait_async("other", timeout_s=0.02)


async def test_the_watching_thread_ends_with_the_last_waiter(
    d: SharedDict, wait_until: Callable[..., Any]
) -> None:
    with pytest.raises(TimeoutError):
        await d.wait_async("k", timeout_s=0.01)
    await asyncio.to_thread(wait_until, lambda: d._watcher._thread is None)


async def test_closing_ends_a_wait() -> None:
    d = SharedDict.create(bytes=2**20)
    waiting = asyncio.create_task(d.wait_async("k"))
    await asyncio.sleep(0)
    await asyncio.to_thread(d.close)
    with pytest.raises(SegmentClosed):
        await waiting


def test_a_snapshot_shows_keys_sizes_writers_and_readers(d: SharedDict) -> None:
    d["a"] = np.zeros(100, "f8")
    d["b"] = b"xyz"
    view = d["a"]
    seen = {key.key: key for key in d.snapshot().keys}
    assert set(seen) == {"a", "b"}
    assert (seen["a"].kind, seen["a"].size_bytes) == ("array", 800)
    assert (seen["b"].kind, seen["b"].size_bytes) == ("bytes", 3)
    assert seen["a"].writer_pid == os.getpid()
    assert seen["a"].holder_pids == (os.getpid(),)
    assert seen["b"].holder_pids == ()
    assert 0 <= seen["a"].age_s < 60
    del view


def test_a_snapshot_disturbs_nobody_who_holds_a_lock(d: SharedDict) -> None:
    """A writer that was stopped in the middle: its bucket is reported as busy, the others are seen."""
    for number in range(1000):
        d[f"k{number}"] = number
    header = np.frombuffer(os.pread(d.fileno(), 128, 0), "u8")
    body_at = int(header[6])
    odd = (int.from_bytes(os.pread(d.fileno(), 4, body_at + 4), "little") | 1).to_bytes(4, "little")
    os.pwrite(d.fileno(), odd, body_at + 4)
    snapshot = d.snapshot()
    assert snapshot.busy_buckets == 1
    assert 900 <= len(snapshot.keys) < 1000
    assert len(list(d)) == 1000  # who must see them all looks under the lock, which ends it
    assert len(d.snapshot().keys) == 1000


def test_statistics_count(d: SharedDict) -> None:
    d["k"] = 1
    d["k"] = 2
    assert d["k"] == 2
    assert d.get("other") is None
    del d["k"]
    found = d.statistics()
    assert (found.sets, found.gets, found.hits, found.deletes, found.keys) == (2, 2, 1, 1, 0)
    assert found.places_taken == 1
    assert found.arena_bytes == 2**24
