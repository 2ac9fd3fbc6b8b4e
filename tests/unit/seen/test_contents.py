# SPDX-License-Identifier: Apache-2.0
"""Bodies as something to look at: whatever they are, and whatever they claim to be."""

from __future__ import annotations

import io
import json
import struct

import numpy as np
import pytest

from cubbyhole.seen.contents import (
    HEX_BYTES,
    TEXT_CHARACTERS,
    Content,
    describe_content,
)


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def whole(data: bytes, content_type: str = "", **more: bool | int) -> Content:
    return describe_content(data, content_type, len(data), **more)  # type: ignore[arg-type]


def test_json_is_laid_out() -> None:
    found = whole(b'{"a":[1,2]}', "application/json")
    assert (found.kind, json.loads(found.text)) == ("json", {"a": [1, 2]})
    assert "\n" in found.text


def test_json_that_is_cut_is_shown_as_the_text_that_it_is() -> None:
    found = describe_content(b'{"a":[1,2', "application/json", 900)
    assert (found.kind, found.text, found.cut) == ("text", '{"a":[1,2', True)


def test_text_that_is_cut_within_a_character_is_still_text() -> None:
    assert describe_content("grün".encode()[:3], "text/plain", 50).text == "gr"


def test_other_bytes_are_a_hex_dump_of_their_beginning() -> None:
    found = whole(bytes(range(256)) * 100)
    assert found.kind == "binary"
    assert found.text.startswith("00000000  00 01 02")
    assert len(found.text.splitlines()) == HEX_BYTES // 16
    assert found.cut


def test_long_texts_are_cut() -> None:
    found = whole(b"a" * (TEXT_CHARACTERS + 5), "text/plain")
    assert len(found.text) == TEXT_CHARACTERS
    assert found.cut


def test_an_array_is_its_type_and_shape_and_numbers_only_where_asked_for() -> None:
    data = npy(np.array([[1.0, 2.0], [3.0, 6.0]], dtype=np.float32))
    (tensor,) = whole(data).tensors
    assert (tensor.dtype, tensor.shape, tensor.mean) == ("float32", (2, 2), None)
    (tensor,) = whole(data, statistics=True).tensors
    assert (tensor.least, tensor.most, tensor.mean) == (1.0, 6.0, 3.0)


def test_an_array_that_is_not_all_here_has_no_numbers() -> None:
    data = npy(np.zeros(1000))
    (tensor,) = describe_content(data[:300], "", len(data), statistics=True).tensors
    assert (tensor.shape, tensor.mean) == ((1000,), None)


def test_numbers_that_json_has_not_are_left_out() -> None:
    (tensor,) = whole(npy(np.array([np.nan, 1.0])), statistics=True).tensors
    assert tensor.mean is None


def test_an_array_of_objects_is_never_unpickled() -> None:
    file = io.BytesIO()
    np.save(file, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    (tensor,) = whole(file.getvalue(), statistics=True).tensors
    assert (tensor.dtype, tensor.mean) == ("object", None)


def test_an_array_that_claims_to_be_huge_makes_nothing_of_that_size() -> None:
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999999,), }"
    data = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header
    (tensor,) = whole(data, statistics=True).tensors
    assert tensor.mean is None


@pytest.mark.parametrize(
    "data",
    [
        b"\x93NUMPY",
        b"\x93NUMPY\x01\x00\xff\xff{",
        b"\x93NUMPY\x09\x09abc",
        b"\x93NUMPY\x01\x00\x05\x00(((((",
    ],
)
def test_a_broken_array_is_a_hex_dump(data: bytes) -> None:
    assert whole(data, statistics=True).kind == "binary"


def test_tensors_of_the_open_inference_protocol_are_listed_with_their_head() -> None:
    raw = np.array([1, 5], dtype="<f4").tobytes()
    head = json.dumps(
        {
            "inputs": [
                {
                    "name": "x",
                    "datatype": "FP32",
                    "shape": [2],
                    "parameters": {"binary_data_size": 8},
                },
                {
                    "name": "s",
                    "datatype": "BYTES",
                    "shape": [1],
                    "parameters": {"binary_data_size": 3},
                },
            ]
        }
    ).encode()
    found = whole(head + raw + b"abc", head_bytes=len(head), statistics=True)
    assert [(t.name, t.dtype, t.shape, t.mean) for t in found.tensors] == [
        ("x", "FP32", (2,), 3.0),
        ("s", "BYTES", (1,), None),
    ]
    assert json.loads(found.text)["inputs"][0]["name"] == "x"


@pytest.mark.parametrize(
    "head",
    [
        b"[]",
        b'{"inputs": 5}',
        b'{"inputs": [{}]}',
        b'{"inputs": [{"name":"x","datatype":"FP32","shape":["a"]}]}',
        b"\xff\xff",
        b'{"inputs":[{"name":"x","datatype":"FP32","shape":[2],"parameters":{"binary_data_size":-9}}]}',
    ],
)
def test_a_broken_head_is_no_error(head: bytes) -> None:
    assert whole(head + b"1234", head_bytes=len(head), statistics=True).size_bytes == len(head) + 4
