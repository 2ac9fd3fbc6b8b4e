# SPDX-License-Identifier: Apache-2.0
"""What decode_request gets, by the annotation of its first parameter."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import pytest
from pydantic import BaseModel

from cubbyhole.core.entries import RequestMeta
from cubbyhole.core.errors import HTTPError, MalformedBody
from cubbyhole.worker.reading import reader_for

if TYPE_CHECKING:
    import numpy.typing as npt


class Point(BaseModel):
    x: int
    y: int = 0


class Form:  # known by its name, as FastAPI's is
    pass


class UploadFile:
    pass


def meta(content_type: str) -> bytes:
    return msgspec.msgpack.encode(RequestMeta(content_type=content_type))


def parse_form(body: Any, content_type: str) -> dict[str, str]:
    assert content_type.startswith("application/x-www-form-urlencoded")
    return dict(pair.split("=") for pair in bytes(body).decode().split("&"))


FORM = meta("application/x-www-form-urlencoded; charset=utf-8")


def untyped(request):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    return request


def of_any_name(stuff: Any, **kwargs: Any) -> Any:
    return stuff


@pytest.mark.parametrize("hook", [untyped, of_any_name])
@pytest.mark.parametrize("value", [{"a": [1, 2.5, None]}, [], 7, "text", None, {"ü": "\n"}])
def test_json_of_any_kind(hook: Any, value: Any) -> None:
    read = reader_for(hook, None)
    assert read(memoryview(json.dumps(value).encode()), b"") == value
    assert read(json.dumps(value).encode(), meta("application/json")) == value


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b"[1e400]", [math.inf]),
        (b"-Infinity", -math.inf),
        (b'"\\ud800"', "\ud800"),
        (b"1" * 40, int("1" * 40)),
    ],
)
def test_json_that_only_the_standard_library_reads(body: bytes, value: Any) -> None:
    assert reader_for(untyped, None)(memoryview(body), b"") == value


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (b'{"a":\n 1,}', "line 2, column"),
        (b"\xff\xfe\xfd", "byte"),
        (b"[" * 100_000, "nested too deeply"),
        (b"9" * 6000, "digits"),
    ],
)
def test_what_is_no_json_is_refused_with_where_and_why(body: bytes, why: str) -> None:
    with pytest.raises(MalformedBody, match=why):
        reader_for(untyped, None)(memoryview(body), b"")


def test_forms_go_to_the_injected_parser() -> None:
    assert reader_for(untyped, parse_form)(memoryview(b"a=1&b=2"), FORM) == {"a": "1", "b": "2"}


def test_the_parser_of_forms_may_be_an_import_path() -> None:
    read = reader_for(untyped, f"{__name__}:parse_form")
    assert read(memoryview(b"a=1"), FORM) == {"a": "1"}


def test_forms_without_a_parser_are_refused() -> None:
    with pytest.raises(HTTPError) as caught:
        reader_for(untyped, None)(memoryview(b"a=1"), FORM)
    assert caught.value.status_code == 415


def test_a_view_is_the_body_itself_whatever_its_content_type() -> None:
    def decode(request: memoryview) -> Any:
        return request

    body = memoryview(bytearray(b"\x00\x01"))
    assert reader_for(decode, None)(body, FORM) is body


def test_bytes_are_a_copy() -> None:
    def decode(body: bytes) -> Any:
        return body

    source = bytearray(b"abc")
    got = reader_for(decode, None)(memoryview(source), b"")
    source[0] = 0
    assert got == b"abc"


def test_a_model_is_validated() -> None:
    def decode(request: Point) -> Any:
        return request

    read = reader_for(decode, None)
    assert read(memoryview(b'{"x": 3}'), b"") == Point(x=3)


@pytest.mark.parametrize(
    ("body", "violation"),
    [
        (b"{}", {"type": "missing", "loc": ["body", "x"], "msg": "Field required", "input": {}}),
        (b"", {"type": "missing", "loc": ["body"], "msg": "Field required", "input": None}),
        (
            b"{",
            {
                "type": "json_invalid",
                "loc": ["body", 1],
                "msg": "JSON decode error",
                "input": {},
                "ctx": {"error": "Expecting property name enclosed in double quotes"},
            },
        ),
    ],
)
def test_violations_are_fastapis(body: bytes, violation: dict[str, Any]) -> None:
    def decode(request: Point) -> Any:
        return request

    with pytest.raises(HTTPError) as caught:
        reader_for(decode, None)(memoryview(body), b"")
    assert (caught.value.status_code, caught.value.detail) == (422, [violation])


@pytest.mark.parametrize("body", [b'"\\ud800"', b'{"\\ud800": 1}', b'{"x": "\\ud800"}'])
def test_a_violation_that_is_no_unicode_is_still_422(body: bytes) -> None:
    def decode(request: Point) -> Any:
        return request

    with pytest.raises(HTTPError) as caught:
        reader_for(decode, None)(memoryview(body), b"")
    assert caught.value.status_code == 422
    assert caught.value.detail[0]["loc"][0] == "body"
    msgspec.json.encode(caught.value.detail)


def test_violations_are_the_same_as_a_running_fastapi_gives() -> None:
    from fastapi import FastAPI
    from fastapi.testclient import TestClient

    app = FastAPI()

    def decode(request: Point) -> Any:
        return request

    app.post("/")(decode)
    decode.__annotations__["request"] = Point
    client = TestClient(app)
    for body in (b"{}", b"", b"{", b'{"x": "a"}', b'{"x": 1.5, "y": null}', b"[1]"):
        theirs = client.post("/", content=body, headers={"content-type": "application/json"})
        with pytest.raises(HTTPError) as caught:
            reader_for(decode, None)(memoryview(body), b"")
        assert theirs.status_code == caught.value.status_code
        assert theirs.json()["detail"] == caught.value.detail, body


def test_a_dict_must_be_an_object() -> None:
    def decode(request: dict) -> Any:  # type: ignore[type-arg]
        return request

    read = reader_for(decode, None)
    assert read(memoryview(b'{"a": 1}'), b"") == {"a": 1}
    with pytest.raises(HTTPError) as caught:
        read(memoryview(b"[1]"), b"")
    assert caught.value.detail == [
        {
            "type": "dict_type",
            "loc": ["body"],
            "msg": "Input should be a valid dictionary",
            "input": [1],
        }
    ]


def test_a_form_can_be_validated() -> None:
    def decode(request: Annotated[Point, Form()]) -> Any:
        return request

    read = reader_for(decode, parse_form)
    assert read(memoryview(b"x=1&y=2"), FORM) == Point(x=1, y=2)
    with pytest.raises(HTTPError) as caught:
        read(memoryview(b"x=a"), FORM)
    assert caught.value.detail[0]["loc"] == ["body", "x"]


def test_a_file_is_the_forms_field_of_the_parameters_name() -> None:
    def decode(picture: UploadFile) -> Any:
        return picture

    read = reader_for(decode, parse_form)
    assert read(memoryview(b"picture=1"), FORM) == "1"
    with pytest.raises(HTTPError) as caught:
        read(memoryview(b"other=1"), FORM)
    assert caught.value.status_code == 422


def test_an_annotation_that_cannot_be_resolved_says_so() -> None:
    def decode(request: NotThere) -> Any:  # type: ignore[name-defined]  # noqa: F821
        return request

    with pytest.raises(TypeError, match="NotThere"):
        reader_for(decode, None)


def test_other_annotations_may_be_for_type_checkers_only() -> None:
    def pixels(request: memoryview) -> npt.NDArray[Any]:
        raise NotImplementedError

    assert type(reader_for(pixels, None)(b"abc", b"")) is memoryview
