# SPDX-License-Identifier: Apache-2.0
"""What was asked for, made of whatever format may come; what is not allowed is not read."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest

from cubbyhole.core.errors import HTTPError, MalformedBody
from cubbyhole.formats.media import media_type
from cubbyhole.formats.reading import Asked, BodyReader
from cubbyhole.formats.writing import write_body

X = np.arange(6, dtype="<f4").reshape(2, 3)
BODIES: dict[str, Any] = {
    "npy": X,
    "safetensors": {"x": X},
    "msgpack": {"x": X},
}


def body(name: str) -> bytes:
    return write_body(name, BODIES[name]).whole()


@pytest.mark.parametrize("name", BODIES)
def test_the_only_array_of_a_body_is_the_array(name: str) -> None:
    read = BodyReader("array", (name,)).read
    np.testing.assert_array_equal(read(body(name), media_type(name)), X)


@pytest.mark.parametrize("name", ["safetensors", "msgpack"])
def test_arrays_by_name(name: str) -> None:
    read = BodyReader("arrays", (name,)).read
    np.testing.assert_array_equal(read(body(name), media_type(name))["x"], X)


def test_a_column_is_an_array() -> None:
    pytest.importorskip("pyarrow")
    sent = write_body("arrow", {"x": np.arange(3)}).whole()
    read = BodyReader("array", ("arrow",)).read
    np.testing.assert_array_equal(read(sent, media_type("arrow")), [0, 1, 2])


@pytest.mark.parametrize("asked", ["array", "arrays", "value"])
@pytest.mark.parametrize("content_type", ["application/json", "", "application/x-pickle"])
def test_what_is_not_allowed_is_415_and_says_what_is(asked: Asked, content_type: str) -> None:
    with pytest.raises(HTTPError, match=r"Send application/x-npy\.") as caught:
        BodyReader(asked, ("npy",)).read(b"", content_type)
    assert caught.value.status_code == 415


@pytest.mark.parametrize(
    ("asked", "value"),
    [
        ("array", {"x": X, "y": X}),
        ("array", {"x": 1}),
        ("array", "text"),
        ("arrays", X),
        ("arrays", {"x": [1]}),
    ],
)
def test_another_value_than_asked_for_is_400(asked: Asked, value: object) -> None:
    with pytest.raises(MalformedBody):
        BodyReader(asked, ("msgpack",)).read(
            write_body("msgpack", value).whole(), media_type("msgpack")
        )


@pytest.mark.parametrize(
    ("name", "value"), [("raw", {"x": 1}), ("safetensors", X), ("safetensors", 7), ("raw", 5)]
)
def test_what_a_format_cannot_hold_says_so(name: str, value: object) -> None:
    with pytest.raises(TypeError, match=r"made of|by name"):
        write_body(name, value)


def test_tensors_lie_on_the_body_and_keep_bfloat16() -> None:
    torch = pytest.importorskip("torch")
    sent = body("npy")
    tensor = BodyReader("tensor", ("npy",)).read(sent, media_type("npy"))
    assert torch.equal(tensor, torch.from_numpy(X.copy()))
    assert np.shares_memory(tensor.numpy(), np.frombuffer(sent, "u1"))
    head = b'{"x":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}} '
    raw = len(head).to_bytes(8, "little") + head + b"\x80\x3f\x00\xc0"
    found = BodyReader("tensors", ("safetensors",)).read(raw, media_type("safetensors"))
    assert found["x"].dtype == torch.bfloat16
    assert found["x"].tolist() == [1, -2]
    back = np.load(io.BytesIO(write_body("npy", found["x"]).whole()))
    np.testing.assert_array_equal(back, [1, -2])


@pytest.mark.parametrize("size", [128, 192, 1024])
@pytest.mark.parametrize("name", ["npy", "safetensors"])
def test_a_head_can_be_made_longer(name: str, size: int) -> None:
    parts = write_body(name, BODIES[name])
    assert parts.lengthen_head(size)
    assert len(parts.head) == size
    read = BodyReader("array", (name,)).read
    np.testing.assert_array_equal(read(parts.whole(), media_type(name)), X)
    assert not parts.lengthen_head(64)


def test_numpy_reads_a_file_with_a_longer_head() -> None:
    parts = write_body("npy", X)
    parts.lengthen_head(1024)
    np.testing.assert_array_equal(np.load(io.BytesIO(parts.whole())), X)
