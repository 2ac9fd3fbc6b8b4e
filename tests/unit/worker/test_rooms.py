# SPDX-License-Identifier: Apache-2.0
"""Where answers are put together: in reserved memory if there is some, once copied, or as they always were."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cubbyhole.core.entries import Result
from cubbyhole.core.errors import ChannelFull
from cubbyhole.formats.writing import write_body
from cubbyhole.worker.rooms import HEAD_BYTES, LEAST_BYTES, Room, Rooms

COUNT = LEAST_BYTES // 4


def full(size_bytes: int) -> bytearray:
    raise ChannelFull(f"no {size_bytes}")


def read_back(result: Result) -> Any:
    return np.load(__import__("io").BytesIO(bytes(result.body)))


def test_what_was_reserved_is_the_answers_memory() -> None:
    rooms = Rooms(bytearray)
    room = Room(rooms)
    array = room.reserve((COUNT,), "float32")
    array[:] = 7
    result = rooms.settle(Result(write_body("npy", array)), room)
    assert type(result.body) is bytearray
    assert len(result.body) == HEAD_BYTES + array.nbytes
    assert np.shares_memory(np.frombuffer(result.body, np.uint8), array)
    np.testing.assert_array_equal(read_back(result), array)


@pytest.mark.parametrize(
    "made", [lambda y: y * 1, lambda y: y[1:], lambda y: y[::2], lambda y: y.astype("f8")]
)
def test_what_is_not_what_was_reserved_is_copied_and_right(made: Any) -> None:
    rooms = Rooms(bytearray)
    room = Room(rooms)
    array = room.reserve(COUNT + 8)
    array[:] = np.arange(COUNT + 8)
    value = made(array)
    result = rooms.settle(Result(write_body("npy", value)), room)
    np.testing.assert_array_equal(read_back(result), value)
    assert not np.shares_memory(np.frombuffer(result.body, np.uint8), array)


def test_the_same_memory_is_handed_over_once() -> None:
    rooms = Rooms(bytearray)
    room = Room(rooms)
    array = room.reserve(COUNT)
    array[:] = 1
    first = rooms.settle(Result(write_body("npy", array)), room)
    second = rooms.settle(Result(write_body("npy", array)), room)
    assert first.body is not second.body


@pytest.mark.parametrize("rooms", [Rooms(None), Rooms(full)], ids=["no memory", "full"])
def test_without_room_it_is_an_ordinary_array(rooms: Rooms) -> None:
    room = Room(rooms)
    array = room.reserve((2, COUNT), np.int64)
    array[:] = 3
    result = rooms.settle(Result(write_body("npy", array)), room)
    assert type(result.body) is bytes
    np.testing.assert_array_equal(read_back(result), array)


def test_small_and_object_arrays_need_no_room() -> None:
    asked: list[int] = []
    rooms = Rooms(lambda size: asked.append(size) or bytearray(size))  # type: ignore[func-returns-value]
    room = Room(rooms)
    assert room.reserve(3).shape == (3,)
    assert room.reserve(COUNT, object).dtype == object
    assert not asked


def test_raw_bytes_have_no_head() -> None:
    rooms = Rooms(bytearray, with_head=False)
    room = Room(rooms)
    array = room.reserve(COUNT)
    array[:] = 5
    result = rooms.settle(Result(memoryview(array).cast("B")), room)
    assert type(result.body) is bytearray
    assert len(result.body) == array.nbytes


def test_several_arrays_are_copied_once_into_reserved_memory() -> None:
    rooms = Rooms(bytearray)
    arrays = {"a": np.ones(COUNT, "f4"), "b": np.zeros(3, "i8")}
    result = rooms.settle(Result(write_body("safetensors", arrays)), None)
    assert type(result.body) is bytearray
