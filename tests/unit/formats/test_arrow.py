# SPDX-License-Identifier: Apache-2.0
"""Tables as Arrow IPC streams, against pyarrow."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cubbyhole.core.errors import MalformedBody
from cubbyhole.formats.arrow import columns, read_arrow, write_arrow

pa = pytest.importorskip("pyarrow")


def test_a_table_comes_back() -> None:
    table = pa.table({"x": [1.5, 2.5], "name": ["a", None]})
    assert read_arrow(write_arrow(table)).equals(table)
    assert read_arrow(write_arrow(table.to_batches()[0])).equals(table)


def test_columns_by_name_make_a_table() -> None:
    found = columns(read_arrow(write_arrow({"x": np.arange(3), "y": np.zeros(3, "f4")})))
    np.testing.assert_array_equal(found["x"], [0, 1, 2])
    assert found["y"].dtype == np.float32


def test_numbers_are_read_where_they_lie() -> None:
    body = bytes(write_arrow({"x": np.arange(1000.0)}))
    array = columns(read_arrow(body))["x"]
    assert np.shares_memory(array, np.frombuffer(body, "u1"))
    assert not array.flags.writeable


def test_what_is_no_table_is_refused() -> None:
    for body in (b"", b"not arrow", bytes(1000), b"\xff" * 64):
        with pytest.raises(MalformedBody):
            read_arrow(body)
    with pytest.raises(TypeError, match="No Arrow table"):
        write_arrow({"x": [1], "y": [1, 2]})


def test_two_columns_of_one_name_are_no_arrays_by_name() -> None:
    table = pa.Table.from_arrays([pa.array([1]), pa.array([2])], ["x", "x"])
    with pytest.raises(MalformedBody, match="same name"):
        columns(table)


BODY = bytes(write_arrow(pa.table({"x": [1.5, 2.5], "name": ["ab", "cde"]})))


@settings(max_examples=1000, deadline=None)
@given(at=st.integers(0, len(BODY)), with_=st.binary(max_size=4), cut=st.integers(0, len(BODY) + 4))
def test_damaged_streams_are_read_or_refused(at: int, with_: bytes, cut: int) -> None:
    with contextlib.suppress(MalformedBody):
        columns(read_arrow((BODY[:at] + with_ + BODY[at + len(with_) :])[:cut]))
