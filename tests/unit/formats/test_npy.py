# SPDX-License-Identifier: Apache-2.0
"""Arrays in numpy's own format."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cubbyhole.core.errors import MalformedBody
from cubbyhole.formats.npy import read_npy, write_npy


def saved(array: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


@pytest.mark.parametrize("order", ["C", "F"])
def test_an_array_is_a_read_only_view(order: str) -> None:
    value = np.array([[1.5, 2], [3, 4]], order=order)  # type: ignore[call-overload]
    array = read_npy(saved(value))
    np.testing.assert_array_equal(array, value)
    assert not array.flags.writeable
    assert not array.flags.owndata


@pytest.mark.parametrize(
    "value",
    [
        np.arange(6, dtype="<f4").reshape(2, 3),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.arange(12)[::2],
        np.float32(1.5),
        np.zeros((0, 3)),
        np.array(["ab", "c"]),
    ],
    ids=["C", "F", "strided", "scalar", "empty", "text"],
)
def test_numpy_reads_what_we_write(value: np.ndarray) -> None:
    back = np.load(io.BytesIO(b"".join(write_npy(value))), allow_pickle=False)
    np.testing.assert_array_equal(back, value)
    assert back.dtype == value.dtype


def test_a_contiguous_array_is_written_without_a_copy() -> None:
    value = np.arange(6.0)
    _, data = write_npy(value)
    assert np.shares_memory(np.frombuffer(data), value)


def test_objects_are_never_pickled_nor_unpickled() -> None:
    with pytest.raises(MalformedBody, match="never unpickled"):
        read_npy(saved(np.array([{}], object)))
    with pytest.raises(TypeError, match="Python objects"):
        write_npy(np.array([{}], object))


def test_a_claimed_size_must_be_there() -> None:
    body = saved(np.zeros((2, 2)))
    claims = body.replace(b"(2, 2), }    ", b"(2**9, 2), }", 1), body + b"x", body[:-1]
    huge = body.replace(b"(2, 2), }" + b" " * 12, b"(2, 222222222222), }" + b" ", 1)
    for wrong in (*claims, huge):
        with pytest.raises(MalformedBody):
            read_npy(wrong)


@pytest.mark.filterwarnings("ignore:Reading `.npy`:UserWarning")
@settings(max_examples=1000, deadline=None)
@given(at=st.integers(0, 127), with_=st.binary(max_size=4), cut=st.integers(0, 160))
def test_damaged_files_are_read_or_refused(at: int, with_: bytes, cut: int) -> None:
    body = saved(np.zeros((2, 2)))
    with contextlib.suppress(MalformedBody):
        read_npy((body[:at] + with_ + body[at + len(with_) :])[:cut])
