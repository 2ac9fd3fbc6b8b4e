# SPDX-License-Identifier: Apache-2.0
"""The ring of the last failures: bounded, whole records only, readable by anybody."""

from __future__ import annotations

import struct

import pytest

from cubbyhole.core.failures import (
    RECORD_BYTES,
    RECORDS,
    RING_BYTES,
    FailureRecord,
    keep_failure,
    read_failures,
)


@pytest.fixture
def ring() -> memoryview:
    return memoryview(bytearray(RING_BYTES))


def test_the_oldest_record_makes_room(ring: memoryview) -> None:
    for number in range(RECORDS + 3):
        keep_failure(ring, FailureRecord(id=number))
    assert [record.id for record in read_failures(ring)] == list(range(3, RECORDS + 3))


@pytest.mark.parametrize("letter", ["x", "\u00e9", "\U0001f600"])
def test_a_long_traceback_keeps_its_end(ring: memoryview, letter: str) -> None:
    keep_failure(ring, FailureRecord(id=1, traceback_text=letter * 9000 + "ValueError: last"))
    (record,) = read_failures(ring)
    assert record.traceback_text.endswith("ValueError: last")
    assert len(record.traceback_text.encode()) > RECORD_BYTES // 2


def test_an_absurd_request_id_does_not_hide_the_failure(ring: memoryview) -> None:
    keep_failure(ring, FailureRecord(id=1, request_id="r" * 9000, message="m" * 9000))
    (record,) = read_failures(ring)
    assert record.message.startswith("mmm")


def test_a_record_that_is_being_written_is_left_out(ring: memoryview) -> None:
    keep_failure(ring, FailureRecord(id=1))
    keep_failure(ring, FailureRecord(id=2))
    struct.pack_into("=Q", ring, 64, 3)
    assert [record.id for record in read_failures(ring)] == [2]


def test_the_place_of_a_writer_that_died_half_way_is_used_again(ring: memoryview) -> None:
    struct.pack_into("=Q", ring, 64, 1)
    keep_failure(ring, FailureRecord(id=5))
    assert [record.id for record in read_failures(ring)] == [5]
