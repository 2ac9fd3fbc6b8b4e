# SPDX-License-Identifier: Apache-2.0
"""The last requests in a ring: bounded, whole or not at all, failures longer."""

from __future__ import annotations

import multiprocessing
import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cubbyhole.core.kept import CELLS, KeptRequest, KeptRequests, find

if TYPE_CHECKING:
    from collections.abc import Iterator

SIZE_BYTES = 1 << 20


@pytest.fixture
def kept() -> Iterator[KeptRequests]:
    made = KeptRequests.create(SIZE_BYTES, 2)
    yield made
    made.close()


def request(number: int, body: bytes = b"", status: int = 0, name: str = "") -> KeptRequest:
    return KeptRequest(number, name, "POST", "/predict", "", "", body, 1.5, status)


def test_what_is_kept_comes_back_as_it_was(kept: KeptRequests) -> None:
    one = KeptRequest(7, "order-17", "POST", "/a b", "x=1", "application/x-npy", b"\0\1", 2.5)
    kept.keep(1, one)
    assert kept.read() == [one]
    assert find(kept.read(), "7") == find(kept.read(), "order-17") == one
    assert find(kept.read(), "8") is None


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 90_000), min_size=1, max_size=60))
def test_the_last_ones_are_there_whole_and_nothing_else(sizes: list[int]) -> None:
    kept = KeptRequests.create(SIZE_BYTES, 1)
    try:
        for number, size in enumerate(sizes):
            kept.keep(0, request(number, bytes([number]) * size))
        found = kept.read()
        ids = [one.id for one in found]
        assert ids == list(range(len(sizes) - len(ids), len(sizes)))  # the newest, without gaps
        assert ids[-1:] == [len(sizes) - 1]
        for one in found:
            assert one.body == bytes([one.id]) * sizes[one.id]
    finally:
        kept.close()


def test_memory_is_bounded(kept: KeptRequests) -> None:
    for number in range(2 * CELLS):
        kept.keep(0, request(number, b"x" * 500))
    assert len(kept.read()) <= SIZE_BYTES / 500
    assert os.fstat(kept._fd).st_size == SIZE_BYTES


def test_good_requests_do_not_push_a_failed_one_out(kept: KeptRequests) -> None:
    kept.keep(0, request(1, b"bad"))
    kept.keep(0, request(1, b"bad", status=500))
    for number in range(2, 2 + 2 * CELLS):
        kept.keep(0, request(number, b"x" * 300))
    assert [one.status for one in kept.read(1)] == [500]


def test_a_request_larger_than_its_room_is_left_out(kept: KeptRequests) -> None:
    kept.keep(0, request(1, b"x" * SIZE_BYTES))
    kept.keep(0, request(2, b"y"))
    assert [one.id for one in kept.read()] == [2]


def test_what_was_written_over_half_way_is_not_shown(kept: KeptRequests) -> None:
    for number in range(3):
        kept.keep(0, request(number, bytes([65 + number]) * 100))
    room = kept._rooms[0][0]
    data = bytes(room._memory).find(b"B" * 100)
    room._memory[data : data + 50] = b"#" * 50
    assert [one.id for one in kept.read()] == [0, 2]


def _write_for_ever(kept_fd: int) -> None:
    kept = KeptRequests(kept_fd, 1)
    number = 0
    while True:
        kept.keep(0, request(number, bytes([number % 251]) * (number * 37 % 3000)))
        number += 1


def test_a_reader_beside_a_writer_never_sees_a_torn_record() -> None:
    kept = KeptRequests.create(64 << 10, 1)  # small, so that it comes round all the time
    writer = multiprocessing.get_context("fork").Process(
        target=_write_for_ever, args=(kept._fd,), daemon=True
    )
    writer.start()
    try:
        seen = 0
        while seen < 300:
            for one in kept.read():
                assert one.body == bytes([one.id % 251]) * (one.id * 37 % 3000)
                seen += 1
    finally:
        writer.kill()
        writer.join()
        writer.close()
        kept.close()
