# SPDX-License-Identifier: Apache-2.0
"""The last eighth of the arena is for answers: however many bodies are let in, what was accepted is answered."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from cubbyhole.channels.base import ChannelSettings
from cubbyhole.channels.registry import create_channel
from cubbyhole.core.entries import RequestEntry, Result
from cubbyhole.core.errors import ChannelFull, EntryTooLarge

if TYPE_CHECKING:
    from collections.abc import Iterator

MIB = 1 << 20
ARENA_MIB = 16
RESERVE_MIB = 2


@pytest.fixture
def channel() -> Iterator[Any]:
    pytest.importorskip("cubbyhole.channels.shm", exc_type=ImportError)
    made = create_channel("shm", ChannelSettings(arena_bytes=ARENA_MIB * MIB, slots=64))
    yield made
    made.close()


def fill(front: Any, size_bytes: int) -> list[Any]:
    """Reserve room for bodies until there is none."""
    taken: list[Any] = []
    with contextlib.suppress(ChannelFull):
        while True:
            taken.append(front.reserve(size_bytes))
    return taken


@pytest.mark.parametrize("size_bytes", [3 * MIB, MIB, 100_000])
def test_bodies_leave_room_for_answers(channel: Any, size_bytes: int) -> None:
    front, worker = channel.front(0), channel.worker(0, 0)
    front.submit(RequestEntry(1, 0, b"small"))
    front.submit(RequestEntry(2, 0, b"small"))
    bodies = fill(front, size_bytes)
    bodies += fill(front, 4096)
    assert bodies
    one, two = worker.claim(2, 1.0)
    worker.publish(one, Result(b"1" * 500_000))
    worker.publish(two, Result(b"2" * 5000))
    assert {collected.id for collected in front.collect()} == {1, 2}
    bodies.clear()
    assert fill(front, 3 * MIB)
    worker.close()
    front.close()


def test_a_body_that_would_need_the_answers_room_never_fits(channel: Any) -> None:
    front = channel.front(0)
    assert front.reserve((ARENA_MIB - RESERVE_MIB) * MIB)
    with pytest.raises(EntryTooLarge):
        front.reserve((ARENA_MIB - RESERVE_MIB) * MIB + 1)
    front.close()


def test_answers_may_use_all_of_the_arena(channel: Any) -> None:
    worker = channel.worker(0, 0)
    assert worker.reserve((ARENA_MIB - RESERVE_MIB + 1) * MIB)
    worker.close()
