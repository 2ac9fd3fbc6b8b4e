# SPDX-License-Identifier: Apache-2.0
"""Arrays by name, against the package safetensors."""

from __future__ import annotations

import contextlib
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cubbyhole.core.errors import MalformedBody
from cubbyhole.formats.safetensors import read_safetensors, write_safetensors

DTYPES = ["?", "u1", "i1", "<u2", "<i2", "<u4", "<i4", "<u8", "<i8", "<f2", "<f4", "<f8"]
ARRAYS = {code: np.arange(6).astype(code).reshape(2, 3) for code in DTYPES} | {
    "empty": np.zeros((0, 4), "f4"),
    "scalar": np.array(1.5),
}


def whole(arrays: dict[str, np.ndarray]) -> bytes:
    return b"".join(write_safetensors(arrays))


def with_head(head: object, data: bytes = b"") -> bytes:
    text = json.dumps(head).encode()
    return len(text).to_bytes(8, "little") + text + data


def test_the_package_reads_what_we_write() -> None:
    package = pytest.importorskip("safetensors.numpy")
    back = package.load(whole(ARRAYS))
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(back[name], array)
        assert back[name].dtype == array.dtype


def test_we_read_what_the_package_writes_as_read_only_views() -> None:
    package = pytest.importorskip("safetensors.numpy")
    body = package.save(ARRAYS, metadata={"by": "a test"})
    back = read_safetensors(body)
    assert back.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(back[name], array)
        assert not back[name].flags.writeable
    assert np.shares_memory(back["<f4"], np.frombuffer(body, "u1"))


def test_an_array_of_the_other_byte_order_is_sent_in_ours() -> None:
    back = read_safetensors(whole({"x": np.array([1.5], ">f4")}))
    np.testing.assert_array_equal(back["x"], [1.5])


def test_bfloat16_is_float32_in_numpy() -> None:
    head = {"x": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}
    back = read_safetensors(with_head(head, b"\x80\x3f\x00\xc0"))
    np.testing.assert_array_equal(back["x"], np.array([1, -2], np.float32))


def test_types_without_a_name_are_refused() -> None:
    with pytest.raises(TypeError, match="complex64"):
        write_safetensors({"x": np.zeros(1, np.complex64)})


ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    ("head", "data"),
    [
        ({"x": ENTRY | {"data_offsets": [0, 9]}}, b"123456789"),
        ({"x": ENTRY | {"data_offsets": [-8, 0]}}, b"12345678"),
        ({"x": ENTRY | {"data_offsets": [8, 0]}}, b"12345678"),
        ({"x": ENTRY | {"shape": [-2]}}, b"12345678"),
        ({"x": ENTRY | {"shape": [2**62, 8]}}, b"12345678"),
        ({"x": ENTRY | {"shape": [1] * 40 + [2]}}, b"12345678"),
        ({"x": ENTRY | {"dtype": "F33"}}, b"12345678"),
        ({"x": ENTRY | {"data_offsets": [4, 12]}}, b"123456789012"),
        ({"x": ENTRY, "y": ENTRY}, b"12345678"),
        ({"x": ENTRY}, b"1234567"),
        ({"x": ENTRY}, b"123456789"),
        ({"x": 7}, b""),
        ([], b""),
    ],
)
def test_what_does_not_fit_is_refused(head: object, data: bytes) -> None:
    with pytest.raises(MalformedBody):
        read_safetensors(with_head(head, data))


def test_a_head_that_is_not_there_is_refused_before_it_is_read() -> None:
    for body in (b"", b"1234567", (2**63).to_bytes(8, "little"), b"\x09" + bytes(7) + b"{}"):
        with pytest.raises(MalformedBody):
            read_safetensors(body)


@settings(max_examples=1000, deadline=None)
@given(at=st.integers(0, 200), with_=st.binary(max_size=4), cut=st.integers(0, 400))
def test_damaged_bodies_are_read_or_refused(at: int, with_: bytes, cut: int) -> None:
    body = whole({"x": np.zeros((2, 2), "f4"), "y": np.zeros(3, "i8")})
    with contextlib.suppress(MalformedBody):
        read_safetensors((body[:at] + with_ + body[at + len(with_) :])[:cut])
