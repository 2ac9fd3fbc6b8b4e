# SPDX-License-Identifier: Apache-2.0
"""What OIPSpec makes of bodies, hostile ones above all."""

from __future__ import annotations

import contextlib
import json
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cubbyhole.core.entries import RequestMeta
from cubbyhole.core.errors import HTTPError
from cubbyhole.specs.oip import HEADER, OIPSpec

DATATYPES = ["BOOL", "UINT8", "INT64", "FP16", "FP32", "BF16", "BYTES"]


def spec_of(datatype: str = "FP32", shape: tuple[int, ...] = (-1, 2)) -> OIPSpec:
    return OIPSpec("m", {"x": (datatype, shape)}, {"y": (datatype, shape)})


def body_of(raw: bytes = b"", **tensor: Any) -> tuple[bytes, RequestMeta]:
    head = {"name": "x", "shape": [1, 2], "datatype": "FP32", **tensor}
    text = json.dumps({"inputs": [head]}).encode()
    return text + raw, RequestMeta(headers=[(HEADER, str(len(text)))])


def sized(size: Any) -> dict[str, Any]:
    return {"parameters": {"binary_data_size": size}}


def test_an_input_is_a_read_only_view_of_the_body() -> None:
    body, meta = body_of(np.array([1, 2], "<f4").tobytes(), **sized(8))
    room = bytearray(body)
    array = spec_of().read_request(room, meta).inputs["x"]
    room[-4:] = np.array([5], "<f4").tobytes()
    assert array.tolist() == [[1, 5]]
    assert not array.flags.writeable


REFUSED: list[tuple[str, bytes, dict[str, Any]]] = [
    ("bytes are left", b"", sized(8)),
    ("bytes are left", b"12345678", sized(-1)),
    ("bytes are left", b"12345678", sized(2**70)),
    ("bytes are left", b"12345678", sized(True)),
    ("has 8 bytes", b"1234", sized(4)),
    ("after its last", b"123456789", sized(8)),
    ("neither", b"", {}),
    ("both", b"12345678", {**sized(8), "data": [1, 2]}),
    ("elements", b"", {"data": [1]}),
    ("not FP32", b"", {"data": ["a", "b"]}),
    ("deeper", b"", {"data": [[[1, 2]]]}),
    ("takes FP32", b"", {"data": [1, 2], "datatype": "INT8"}),
    ("takes", b"", {"data": [1, 2], "shape": [2]}),
    ("takes", b"", {"data": [1, 2], "shape": [-1, -2]}),
    ("elements", b"", {"data": [1, 2], "shape": [2**62, 2]}),
    ("no input", b"", {"data": [1, 2], "name": "z"}),
    ("shared_memory_region", b"", {"parameters": {"shared_memory_region": "r"}}),
    ("valid request", b"", {"shape": "no"}),
]


@pytest.mark.parametrize(("why", "raw", "tensor"), REFUSED)
def test_what_does_not_fit_is_refused_with_400(why: str, raw: bytes, tensor: Any) -> None:
    body, meta = body_of(raw, **tensor)
    with pytest.raises(HTTPError, match=why) as caught:
        spec_of().read_request(body, meta)
    assert caught.value.status_code == 400


@pytest.mark.parametrize("size", ["-1", "x", "9999", "9" * 40, "\u00b2", " 1", ""])
def test_a_header_length_that_is_none_is_refused(size: str) -> None:
    with pytest.raises(HTTPError, match="Content-Length"):
        spec_of().read_request(b'{"inputs": []}', RequestMeta(headers=[(HEADER, size)]))


def test_missing_and_repeated_inputs_are_refused() -> None:
    one = {"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}
    for inputs, why in ([], "missing"), ([one, one], "twice"):
        with pytest.raises(HTTPError, match=why):
            spec_of().read_request(json.dumps({"inputs": inputs}).encode())


def test_a_bool_of_another_bit_pattern_is_refused() -> None:
    body, meta = body_of(b"\x01\x02", datatype="BOOL", **sized(2))
    with pytest.raises(HTTPError, match="0 and 1"):
        spec_of("BOOL").read_request(body, meta)


def test_bytes_that_claim_more_than_there_is_are_refused() -> None:
    for raw in b"\xff\xff\xff\xff\0\0\0\0", b"\5\0\0\0abcde\0\0", b"\1\0\0\0a\1\0\0\0bX":
        body, meta = body_of(raw, datatype="BYTES", **sized(len(raw)))
        with pytest.raises(HTTPError):
            spec_of("BYTES").read_request(body, meta)


def test_a_claimed_size_allocates_nothing() -> None:
    body, meta = body_of(b"\0" * 8, datatype="BYTES", shape=[2**28, 2], **sized(8))
    spec = spec_of("BYTES")
    tracemalloc.start()
    try:
        with pytest.raises(HTTPError, match="too few"):
            spec.read_request(body, meta)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_what_predict_gave_is_checked_against_the_declaration() -> None:
    spec = spec_of("INT64")
    request = spec.read_request(
        json.dumps(
            {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "INT64", "data": [1, 2]}]}
        ).encode()
    )
    for wrong in (
        {"y": np.zeros((1, 2))},
        {"y": np.zeros((1, 3), int)},
        {"z": np.zeros((1, 2), int)},
        [1],
    ):
        with pytest.raises(ValueError, match="predict gave"):
            spec.render(request, [[wrong]])


@settings(max_examples=200, deadline=None)
@given(body=st.binary(max_size=200), size=st.text(max_size=4))
def test_random_bytes_are_refused_and_never_crash(body: bytes, size: str) -> None:
    with contextlib.suppress(HTTPError):
        spec_of().read_request(body, RequestMeta(headers=[(HEADER, size)]))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=300, deadline=None)
@given(
    datatype=st.sampled_from(DATATYPES),
    shape=st.lists(st.integers(-2, 2**63), max_size=3) | st.just([1, 2]) | st.just([0, 2]),
    raw=st.binary(max_size=40),
    size=st.integers(-1, 41) | json_values,
    data=st.none() | json_values,
)
def test_hostile_tensors_are_read_or_refused(
    datatype: str, shape: list[int], raw: bytes, size: Any, data: Any
) -> None:
    more = {"data": data} if data is not None else sized(size)
    body, meta = body_of(raw, datatype=datatype, shape=shape, **more)
    with contextlib.suppress(HTTPError):
        array = spec_of(datatype).read_request(body, meta).inputs["x"]
        assert list(array.shape) == shape


def test_bfloat16_leaves_rounded_to_even_with_nan_kept() -> None:
    spec = spec_of("BF16", (-1,))
    head = {"name": "x", "shape": [1], "datatype": "BF16", **sized(2)}
    text = json.dumps({"inputs": [head], "parameters": {"binary_data_output": True}}).encode()
    request = spec.read_request(text + b"\x80\x3f", RequestMeta(headers=[(HEADER, str(len(text)))]))
    assert request.inputs["x"].tolist() == [1.0]
    between = np.array([0x3F808000, 0x3F818000, 0x7FFFFFFF, 0x7F800000], "<u4").view("<f4")
    raw = spec.render(request, [[{"y": between}]]).body.whole()[-8:]
    assert np.frombuffer(raw, "<u2").tolist() == [0x3F80, 0x3F82, 0x7FC0, 0x7F80]
