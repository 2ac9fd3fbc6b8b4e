# SPDX-License-Identifier: Apache-2.0
"""What goes in comes out, of the same type; what would not, is refused."""

from __future__ import annotations

import array
import enum
import gc
import os
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from cubbyhole import SharedDict
from cubbyhole.core.errors import UnknownType, WrongLayout

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.mark.parametrize(
    "value",
    [
        *(None, True, False, 0, -1, 2**63 - 1, -(2**63), 2**64 - 1, 2**64, -(2**200), 1.5),
        *("", "grüße", "\udc80", b"", b"x" * 100_000),
        *([], [1, [2.0, None]], (), (1, (2, [3])), {}, {"a": {"b": (1,)}}, {1: "one", None: b"n"}),
    ],
    ids=lambda value: repr(value)[:24],
)
def test_plain_values_come_back_as_they_were(d: SharedDict, value: Any) -> None:
    d["k"] = value
    assert d["k"] == value
    assert type(d["k"]) is type(value)


@pytest.mark.parametrize(
    "value",
    [
        np.arange(6, dtype="f4").reshape(2, 3),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.arange(20)[::3],
        np.zeros((0, 3), "i2"),
        np.array(7.5),
        np.array([True, False]),
        np.array([1 + 2j], dtype="c8"),
        np.array(["ab", "c"]),
        np.array([b"ab", b"c"]),
        np.array(["2026-01-01"], dtype="M8[D]"),
        np.array([(1, [2.0, 3.0])], dtype=[("a", "<i4"), ("b", "<f8", (2,))]),
        np.arange(3, dtype=">i4"),
    ],
    ids=lambda value: f"{value.dtype}{value.shape}",
)
def test_arrays_come_back_as_read_only_views(d: SharedDict, value: np.ndarray[Any, Any]) -> None:
    d["k"] = value
    found = d["k"]
    np.testing.assert_array_equal(found, value)
    assert found.dtype == value.dtype
    assert not found.flags.writeable
    assert not found.flags.owndata
    assert found.flags.f_contiguous == value.flags.f_contiguous or not value.flags.c_contiguous
    if found.nbytes:
        assert found.ctypes.data % 64 == 0


def test_numpy_scalars_stay_numpy_scalars(d: SharedDict) -> None:
    d["k"] = np.float32(2.5)
    assert type(d["k"]) is np.float32
    assert d["k"] == 2.5


@pytest.mark.parametrize(
    "value",
    [bytearray(b"abc"), memoryview(b"abc"), array.array("d", [1.0, 2.0]), memoryview(b"abcd")[::2]],
)
def test_buffers_come_back_as_memoryviews(d: SharedDict, value: Any) -> None:
    d["k"] = value
    found = d["k"]
    assert isinstance(found, memoryview)
    assert found.readonly
    assert found == memoryview(value)
    assert found.format == memoryview(value).format


class OnlyInterface:
    """Gives its memory by `__array_interface__` alone."""

    def __init__(self, held: np.ndarray[Any, Any]) -> None:
        self.held = held
        self.__array_interface__ = held.__array_interface__


class OnlyDlpack:
    """Gives its memory by DLPack alone, as a CPU tensor does."""

    def __init__(self, held: np.ndarray[Any, Any]) -> None:
        self.held = held

    def __dlpack__(self, **options: Any) -> Any:
        return self.held.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)


class OnDevice(OnlyDlpack):
    """As a tensor on a GPU."""

    def __dlpack_device__(self) -> tuple[int, int]:
        return (2, 0)


@pytest.mark.parametrize("wrap", [OnlyInterface, OnlyDlpack])
def test_foreign_arrays_are_stored_as_arrays(d: SharedDict, wrap: Any) -> None:
    d["k"] = wrap(np.arange(5.0))
    np.testing.assert_array_equal(d["k"], np.arange(5.0))


class Colour(enum.IntEnum):
    RED = 1


@pytest.mark.parametrize(
    "value",
    [
        object(),
        Fraction(1, 3),
        {1, 2},
        Colour.RED,
        [Colour.RED],
        {"a": np.zeros(2)},
        {(1, 2): 3},
        np.array([object()]),
        np.ma.masked_array([1, 2], mask=[True, False]),
        OnDevice(np.zeros(1)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_would_change_is_refused(d: SharedDict, value: Any) -> None:
    with pytest.raises(UnknownType, match=r"allow_pickle=True|Move it to the CPU"):
        d["k"] = value
    assert "k" not in d


def test_a_list_that_contains_itself_is_refused(d: SharedDict) -> None:
    ring: list[Any] = []
    ring.append(ring)
    with pytest.raises(UnknownType, match="contains itself"):
        d["k"] = ring


@pytest.fixture
def trusting() -> Iterator[SharedDict]:
    with SharedDict.create(bytes=2**20, allow_pickle=True) as made:
        yield made


def test_anything_is_stored_where_pickle_is_allowed(trusting: SharedDict) -> None:
    for value in (Fraction(1, 3), {1, 2}, {"a": Fraction(1)}, Colour.RED, np.array([Fraction(1)])):
        trusting["k"] = value
        assert trusting["k"] == value
        assert type(trusting["k"]) is type(value)


def test_a_pickle_is_not_read_where_it_is_not_allowed(trusting: SharedDict) -> None:
    trusting["k"] = Fraction(1, 3)
    with SharedDict.attach(os.getpid(), trusting.fileno()) as careful:
        with pytest.raises(UnknownType, match="runs code of whoever wrote it"):
            careful["k"]
        assert len(careful.view("k")) > 0


def test_a_view_shows_the_bytes_of_any_value(d: SharedDict) -> None:
    d["k"] = "grüße"
    view = d.view("k")
    assert bytes(view) == "grüße".encode()
    with pytest.raises(TypeError, match="read-only"):
        view[0] = 1


def test_a_view_keeps_its_value_after_overwrite_and_delete(d: SharedDict) -> None:
    d["k"] = np.full(1000, 7)
    view = d["k"]
    for number in range(200):
        d["k"] = np.full(1000, number)
    del d["k"]
    for number in range(200):
        d[f"other{number}"] = np.full(1000, number)
    np.testing.assert_array_equal(view, np.full(1000, 7))


def test_a_slice_of_a_view_holds_the_block(d: SharedDict) -> None:
    d["k"] = np.arange(1000)
    part = d["k"][10:20]
    del d["k"]
    assert d.statistics().used_blocks == 1
    np.testing.assert_array_equal(part, np.arange(10, 20))
    del part
    gc.collect()
    assert d.statistics().used_blocks == 0


def test_two_views_of_one_value_hold_it_each(d: SharedDict) -> None:
    d["k"] = np.arange(1000)
    first, second = d["k"], d["k"]
    assert d["k"].sum() == second.sum()
    del d["k"], first
    for number in range(100):
        d[f"other{number}"] = np.full(1000, number)
    np.testing.assert_array_equal(second, np.arange(1000))


def test_an_array_written_over_is_an_error_and_no_crash(d: SharedDict) -> None:
    d["k"] = np.arange(4)
    kind, head, value = d._index.get("k")  # type: ignore[misc]
    with pytest.raises(WrongLayout, match="written over"):
        d._codec.decode(kind, head, memoryview(value)[:8])
    with pytest.raises(WrongLayout, match="written over"):
        d._codec.decode(kind, b"\x00\xff", value)
    with pytest.raises(WrongLayout, match="no known kind"):
        d._codec.decode(31, head, value)
    with pytest.raises(WrongLayout, match="no MessagePack"):
        d._codec.decode(3, b"", b"\xc1")
