# SPDX-License-Identifier: Apache-2.0
"""MessagePack with arrays, against the package msgpack-numpy."""

from __future__ import annotations

import contextlib

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cubbyhole.core.errors import MalformedBody
from cubbyhole.formats.packed import read_packed, write_packed

VALUE = {"a": np.arange(6, dtype="<f4").reshape(2, 3), "n": [1, None, "text"], "b": b"\x00"}


def test_values_come_back_with_their_arrays() -> None:
    back = read_packed(write_packed(VALUE))
    np.testing.assert_array_equal(back.pop("a"), VALUE["a"])
    assert back == {"n": [1, None, "text"], "b": b"\x00"}


def test_msgpack_numpy_reads_ours_and_we_read_its() -> None:
    msgpack = pytest.importorskip("msgpack")
    package = pytest.importorskip("msgpack_numpy")
    theirs = msgpack.unpackb(write_packed(VALUE), object_hook=package.decode, strict_map_key=False)
    np.testing.assert_array_equal(theirs["a"], VALUE["a"])
    ours = read_packed(msgpack.packb({"a": VALUE["a"], "s": np.float32(2)}, default=package.encode))
    np.testing.assert_array_equal(ours["a"], VALUE["a"])
    assert ours["s"] == 2.0


@pytest.mark.parametrize(
    "array",
    [
        {"nd": True, "type": "O", "shape": [1], "data": bytes(8)},
        {"nd": True, "type": "<f4", "shape": [2], "data": bytes(7)},
        {"nd": True, "type": "<f4", "shape": [-1], "data": b""},
        {"nd": True, "type": "<f4", "shape": [2**40, 2**40], "data": b""},
        {"nd": True, "type": "no such", "shape": [1], "data": b"1234"},
        {"nd": True, "type": [["a", "<f4"]], "shape": [1], "data": b"1234"},
        {"nd": True, "shape": [1], "data": b"1234"},
        {"nd": True, "type": "<M8[s]", "shape": [1], "data": bytes(8)},
    ],
)
def test_arrays_that_cannot_be_are_refused(array: object) -> None:
    with pytest.raises(MalformedBody):
        read_packed(msgspec.msgpack.encode({"x": array}))


def test_what_is_no_messagepack_is_refused() -> None:
    for body in (b"", b"\xc1", b"\x91" * 100_000):
        with pytest.raises(MalformedBody):
            read_packed(body)


def test_what_has_no_form_in_messagepack_is_refused() -> None:
    with pytest.raises(TypeError, match="object"):
        write_packed({"x": object()})
    with pytest.raises(TypeError, match="ndarray"):
        write_packed({"x": np.array([{}], object)})


@settings(max_examples=500, deadline=None)
@given(at=st.integers(0, 80), with_=st.binary(max_size=4), cut=st.integers(0, 120))
def test_damaged_bodies_are_read_or_refused(at: int, with_: bytes, cut: int) -> None:
    body = write_packed(VALUE)
    with contextlib.suppress(MalformedBody):
        read_packed((body[:at] + with_ + body[at + len(with_) :])[:cut])
