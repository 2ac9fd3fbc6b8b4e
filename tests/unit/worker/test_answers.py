# SPDX-License-Identifier: Apache-2.0
"""What encode_response returned becomes the bytes that FastAPI would have sent."""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import decimal
import enum
import json
import math
import pathlib
import uuid
from typing import Any

import msgspec
import numpy as np
import pytest
from fastapi import Response
from fastapi.encoders import jsonable_encoder
from fastapi.responses import HTMLResponse, JSONResponse
from pydantic import BaseModel

from cubbyhole.core.entries import ResultMeta
from cubbyhole.worker.answers import chunk_encoder, encode_answer, encode_chunk


class Model(BaseModel):
    x: int
    when: dt.date = dt.date(2024, 5, 1)


@dataclasses.dataclass
class Record:
    x: int


class Colour(enum.Enum):
    RED = "red"


class Text(str):
    __slots__ = ()


def meta_of(answer: Any) -> ResultMeta:
    return msgspec.msgpack.decode(answer.meta, type=ResultMeta)


@pytest.mark.parametrize(
    "value",
    [
        {"a": 1, "b": [1.5, None, True], "c": {"d": "ü"}},
        {"a": "x", "b": 2, "c": None, "d": 1.25, "e": False},
        [1, 2],
        "text",
        7,
        2.5,
        True,
        None,
        Model(x=1),
        {"m": Model(x=1), "l": [Model(x=2)]},
        {"image": b"aGVsbG8="},  # what base64.b64encode returns
        Record(3),
        (1, 2),
        {1},
        frozenset({2}),
        collections.deque([1]),
        collections.OrderedDict(a=1),
        collections.defaultdict(int, a=1),
        Colour.RED,
        {"c": Colour.RED},
        uuid.UUID(int=5),
        pathlib.PurePosixPath("/a/b"),
        dt.date(2024, 5, 1),
        dt.datetime(2024, 5, 1, 12, 0, 5),  # noqa: DTZ001
        dt.timedelta(seconds=90),
        {"n": 2**80},
        {1: "a", 2: "b"},
        Text("sub"),
        {"t": Text("sub")},
    ],
    ids=repr,
)
def test_json_is_fastapis(value: Any) -> None:
    answer = encode_answer(value)
    assert (answer.status, answer.meta) == (200, b"")
    assert json.loads(answer.body) == json.loads(json.dumps(jsonable_encoder(value)))


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (np.arange(6, dtype=np.float32).reshape(2, 3), [[0, 1, 2], [3, 4, 5]]),
        (
            {"a": np.float32(1.5), "b": np.int64(3), "c": np.bool_(True)},
            {"a": 1.5, "b": 3, "c": True},
        ),
        ([np.array([1, 2])], [[1, 2]]),
        (np.float64(2.5), 2.5),
        pytest.param((n for n in range(2)), [0, 1], id="a generator"),
        ({"x": math.nan}, {"x": None}),
        ([math.inf], [None]),
        (decimal.Decimal("1.5"), "1.5"),
        ("\ud800", "\ud800"),
        ({"a": "\ud800"}, {"a": "\ud800"}),
        ({"\ud800": 1}, {"\ud800": 1}),
        ({"\ud800": np.int64(1)}, {"\ud800": 1}),
        (["\ud800", {"b": [1]}], ["\ud800", {"b": [1]}]),
    ],
    ids=repr,
)
def test_json_of_what_fastapi_refuses(value: Any, shown: Any) -> None:
    assert json.loads(encode_answer(value).body) == shown


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_bytes_go_out_as_they_are(kind: Any) -> None:
    answer = encode_answer(kind(b"\x00\xff"))
    assert bytes(answer.body) == b"\x00\xff"
    assert meta_of(answer).content_type == "application/octet-stream"


def test_a_response_keeps_status_headers_and_type() -> None:
    answer = encode_answer(HTMLResponse("<p>", 201, {"X-A": "b"}))
    assert (answer.status, bytes(answer.body)) == (201, b"<p>")
    meta = meta_of(answer)
    assert meta.content_type == "text/html; charset=utf-8"
    assert meta.headers == [("x-a", "b")]  # and no length, which the front counts
    assert bytes(encode_answer(JSONResponse({"a": 1})).body) == b'{"a":1}'


def test_an_array_in_a_response_is_not_copied() -> None:
    array: Any = np.arange(12, dtype=np.float32).reshape(3, 4)
    answer = encode_answer(Response(memoryview(array).cast("B")))
    assert np.shares_memory(np.frombuffer(answer.body, np.uint8), array)
    answer = encode_answer(Response(memoryview(array)))
    assert memoryview(answer.body).nbytes == array.nbytes
    assert np.shares_memory(np.frombuffer(answer.body, np.uint8), array)


def test_an_array_that_is_no_run_of_bytes_is_copied_in_order() -> None:
    array = np.arange(6, dtype=np.uint8).reshape(2, 3).T
    assert bytes(encode_answer(Response(memoryview(array))).body) == array.tobytes()


def test_what_cannot_be_written_is_refused_by_name() -> None:
    with pytest.raises(Exception, match="lock"):
        encode_answer({"a": __import__("threading").Lock()})


def test_chunks_are_litserves() -> None:
    values = ["a", b"b", {"k": 1}, Model(x=1)]
    written = b"".join(bytes(encode_chunk(value)) for value in values)
    assert written == b'ab{"k": 1}\n{"x":1,"when":"2024-05-01"}\n'


def test_a_chunk_of_another_type_is_refused_by_name() -> None:
    with pytest.raises(TypeError, match="int"):
        encode_chunk(3)


def test_a_users_format_comes_first() -> None:
    encode = chunk_encoder(lambda value: f"data: {value}\n\n")
    assert encode({"a": 1}) == b"data: {'a': 1}\n\n"
