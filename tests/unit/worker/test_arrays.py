# SPDX-License-Identifier: Apache-2.0
"""Arrays as request bodies."""

from __future__ import annotations

import contextlib
import io

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cubbyhole.core.entries import RequestMeta
from cubbyhole.core.errors import HTTPError, MalformedBody
from cubbyhole.worker.arrays import read_npy
from cubbyhole.worker.reading import reader_for

NPY = "application/x-npy"


def saved(array: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


def takes_array(request: np.ndarray) -> None:
    """Stand for a decode_request."""


@pytest.mark.parametrize("order", ["C", "F"])
def test_an_array_by_annotation_is_a_read_only_view(order: str) -> None:
    value = np.array([[1.5, 2], [3, 4]], order=order)  # type: ignore[call-overload]
    meta = msgspec.msgpack.encode(RequestMeta(content_type=NPY))
    array = reader_for(takes_array, None)(saved(value), meta)
    np.testing.assert_array_equal(array, value)
    assert not array.flags.writeable
    assert not array.flags.owndata


def test_another_content_type_is_415() -> None:
    with pytest.raises(HTTPError, match="415"):
        reader_for(takes_array, None)(b"[1]", b"")


def test_objects_are_never_unpickled() -> None:
    with pytest.raises(MalformedBody, match="never unpickled"):
        read_npy(saved(np.array([{}], object)), NPY)


def test_a_claimed_size_must_be_there() -> None:
    body = saved(np.zeros((2, 2)))
    claims = body.replace(b"(2, 2), }    ", b"(2**9, 2), }", 1), body + b"x", body[:-1]
    huge = body.replace(b"(2, 2), }" + b" " * 12, b"(2, 222222222222), }" + b" ", 1)
    for wrong in (*claims, huge):
        with pytest.raises(MalformedBody):
            read_npy(wrong, NPY)


@pytest.mark.filterwarnings("ignore:Reading `.npy`:UserWarning")
@settings(max_examples=1000, deadline=None)
@given(at=st.integers(0, 127), with_=st.binary(max_size=4), cut=st.integers(0, 160))
def test_damaged_files_are_read_or_refused(at: int, with_: bytes, cut: int) -> None:
    body = saved(np.zeros((2, 2)))
    with contextlib.suppress(MalformedBody):
        read_npy((body[:at] + with_ + body[at + len(with_) :])[:cut], NPY)
