# SPDX-License-Identifier: Apache-2.0
"""Request body -> what `decode_request` gets. Decided once for each API, by the annotation of its first parameter.

    no annotation, Any, Request      parsed JSON, or the form when the content type is a form's
    dict                             parsed JSON, which must be an object
    memoryview                       the body itself, not copied; bytes, bytearray: a copy
    numpy.ndarray, torch.Tensor      one array (application/x-npy), a view of the body
    dict[str, ndarray | Tensor]      arrays by name (safetensors, MessagePack), views of the body
    pyarrow.Table, PIL.Image.Image   an Arrow IPC stream; an image file, decoded
    pydantic model, any other type   validated with pydantic; violations are FastAPI's 422
    Annotated[T, Form()]             the form, validated as T;  UploadFile: the form's file of the parameter's name

`LitAPI.body_formats` names the formats that an API reads (`formats/media.py`), where these are not the ones it wants.

Flow:  ClaimedEntry.body, .meta -> **reading.py** -> runner.py -> decode_request
Owns:  nothing; readers are closures.
"""

from __future__ import annotations

import inspect
import json
import typing
from collections.abc import Hashable
from importlib import import_module
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import msgspec

from cubbyhole.core.entries import RequestMeta
from cubbyhole.core.errors import HTTPError, MalformedBody
from cubbyhole.formats.media import FORM, JSON, RAW, format_of
from cubbyhole.formats.reading import USUAL, BodyReader

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cubbyhole.core.entries import Buffer
    from cubbyhole.formats.reading import Asked

    Reader: TypeAlias = Callable[[Buffer, bytes], Any]  # body, encoded RequestMeta
    ParseForm: TypeAlias = Callable[[Buffer, str], Any]  # body, content type

_FORMS = ("multipart/form-data", "application/x-www-form-urlencoded")
_decode_json = msgspec.json.Decoder().decode
decode_meta = msgspec.msgpack.Decoder(RequestMeta).decode


def reader_for(
    hook: Callable[..., Any],
    parse_form: ParseForm | str | None,
    formats: Sequence[str] | None = None,
) -> Reader:
    """Make the reader for a `decode_request`.

    Args:
        hook: The bound method; its first parameter may have any name.
        parse_form: (body, content type) -> mapping of fields, or where to import it from once a form comes;
            None: forms are refused with 415.
        formats: `LitAPI.body_formats`: the formats that may come; None: those that go with the annotation.

    Returns:
        A function that raises `MalformedBody` (400) or `HTTPError` (422, 415) for what it cannot read.
    """
    name, annotation = _first_parameter(hook)
    metadata = getattr(annotation, "__metadata__", ())
    inner = typing.get_args(annotation)[0] if metadata else annotation
    if any(type(mark).__name__ in ("Form", "File") for mark in metadata):
        return _form_reader(inner, name, parse_form)
    if getattr(inner, "__name__", "") == "UploadFile":
        return _form_reader(inner, name, parse_form)
    raw = _RAW.get(inner) if isinstance(inner, Hashable) else None
    if raw is not None:
        return raw
    asked = _asked_for(inner)
    if asked is not None:
        return _format_reader(asked, formats or USUAL[asked])
    if inner is Any or getattr(inner, "__name__", "") == "Request":
        plain = _json_or_form_reader(parse_form)
        return plain if formats is None else _any_reader(plain, formats)
    return _validating_reader(inner)


def read_json(body: Buffer) -> Any:
    """Parse JSON: fast, and what only the standard library accepts (NaN, lone surrogates) by it.

    Raises:
        MalformedBody: it is none; the text says where and why.
    """
    try:
        return _decode_json(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _read_json_leniently(body)


def _read_json_leniently(body: Buffer) -> Any:
    raw = bytes(body)
    if not raw.strip():
        raise MalformedBody("Request body is empty, but JSON is expected.")
    try:
        return json.loads(raw)
    except json.JSONDecodeError as error:
        raise MalformedBody(
            f"Request body is not JSON: {error.msg} at line {error.lineno}, column {error.colno}."
        ) from error
    except UnicodeDecodeError as error:
        raise MalformedBody(
            f"Request body is not JSON: {error.reason} at byte {error.start}, not {error.encoding}."
        ) from error
    except RecursionError as error:
        raise MalformedBody("Request body is JSON nested too deeply to be read.") from error
    except ValueError as error:  # Python reads no integer of more than 4300 digits (CVE-2020-10735)
        raise MalformedBody("Request body is JSON with a number of too many digits.") from error


def _first_parameter(hook: Callable[..., Any]) -> tuple[str, Any]:
    parameters = list(inspect.signature(hook).parameters.values())
    if not parameters or parameters[0].kind is inspect.Parameter.VAR_KEYWORD:
        raise TypeError(
            f"{getattr(hook, '__qualname__', hook)} takes no request. Give it a parameter for it."
        )
    first = parameters[0]
    annotation = first.annotation
    if isinstance(annotation, str):
        annotation = _resolve(hook, first.name, annotation)
    return first.name, Any if annotation is inspect.Parameter.empty else annotation


def _resolve(hook: Callable[..., Any], name: str, annotation: str) -> Any:
    # Only this one: the others, the returned type above all, may well be names for type checkers only.
    only = SimpleNamespace(__annotations__={name: annotation})
    names = getattr(inspect.unwrap(hook), "__globals__", {})
    try:
        return typing.get_type_hints(only, globalns=names, include_extras=True)[name]
    except NameError as error:  # names imported for type checkers only
        if annotation.rpartition(".")[2] == "Request":
            return Any
        raise TypeError(
            f"The annotation {annotation!r} of {name!r} cannot be resolved in the worker ({error}). "
            "Import the name at module level, outside of TYPE_CHECKING."
        ) from error


def _read_view(body: Buffer, _meta: bytes) -> memoryview:
    return body if type(body) is memoryview else memoryview(body)


def _read_object(body: Buffer, _meta: bytes) -> dict[str, Any]:
    value = read_json(body)
    if type(value) is dict:
        return value
    message = "Input should be a valid dictionary"
    raise HTTPError(422, [_violation("dict_type", ["body"], message, value)])


_RAW: dict[Any, Reader] = {
    memoryview: _read_view,
    bytes: lambda body, _meta: bytes(body),
    bytearray: lambda body, _meta: bytearray(body),
    dict: _read_object,
    dict[str, Any]: _read_object,
}


def asked_by(hook: Callable[..., Any]) -> str:
    """Return what a decode_request asks for of arrays that were handed over: as `formats.reading.Asked`, or "raw"."""
    _, annotation = _first_parameter(hook)
    if isinstance(annotation, Hashable) and annotation in {memoryview, bytes, bytearray}:
        return "raw"
    return _asked_for(annotation) or "value"


def _asked_for(annotation: Any) -> Asked | None:
    """What an annotation asks for, if it is arrays; by names, so that neither numpy nor torch is imported for it."""
    if typing.get_origin(annotation) is dict:
        key, value = typing.get_args(annotation)
        one = _asked_for(value) if key is str else None
        return {"array": "arrays", "tensor": "tensors"}.get(one or "")  # type: ignore[return-value]
    module, name = getattr(annotation, "__module__", ""), getattr(annotation, "__name__", "")
    if module == "numpy" and name == "ndarray":
        return "array"
    if module.partition(".")[0] == "torch" and name == "Tensor":
        return "tensor"
    if module == "PIL.Image" and name == "Image":
        return "image"
    return "table" if module.partition(".")[0] == "pyarrow" and name == "Table" else None


def _format_reader(asked: Asked, formats: Sequence[str]) -> Reader:
    read = BodyReader(asked, formats).read
    return lambda body, meta: read(body, decode_meta(meta).content_type if meta else "")


def _any_reader(plain: Reader, formats: Sequence[str]) -> Reader:
    """For a parameter without annotation whose API says by itself what may come."""
    read = BodyReader("value", formats).read
    plain_formats = {JSON, FORM} & set(formats)

    def read_any(body: Buffer, meta: bytes) -> Any:
        content_type = decode_meta(meta).content_type if meta else ""
        kind = format_of(content_type)
        if kind in plain_formats:
            return plain(body, meta)
        if kind == RAW and RAW in formats:
            return _read_view(body, meta)
        return read(body, content_type)

    return read_any


def _json_or_form_reader(parse_form: ParseForm | str | None) -> Reader:
    def read(body: Buffer, meta: bytes) -> Any:
        if meta:
            content_type = decode_meta(meta).content_type
            if content_type.lower().startswith(_FORMS):
                return _parse(parse_form, body, content_type)
        try:
            return _decode_json(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return _read_json_leniently(body)

    return read


def _parse(parse_form: ParseForm | str | None, body: Buffer, content_type: str) -> Any:
    if isinstance(parse_form, str):
        module, _, name = parse_form.partition(":")
        parse_form = cast("ParseForm", getattr(import_module(module), name))
    if parse_form is None:
        raise HTTPError(
            415, f"This worker reads no forms, but the content type is {content_type!r}."
        )
    return parse_form(body, content_type)


def _validating_reader(kind: Any) -> Reader:
    import pydantic

    adapter: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(kind)
    validate = adapter.validate_python

    def read(body: Buffer, _meta: bytes) -> Any:
        if len(body) == 0:
            raise HTTPError(422, [_violation("missing", ["body"], "Field required", None)])
        try:
            value = read_json(body)
        except MalformedBody as error:
            where = getattr(error.__cause__, "pos", 0)
            why = getattr(error.__cause__, "msg", str(error))
            violation = _violation("json_invalid", ["body", where], "JSON decode error", {})
            raise HTTPError(422, [violation | {"ctx": {"error": why}}]) from error
        try:
            return validate(value, from_attributes=True)  # as FastAPI does
        except pydantic.ValidationError as error:
            raise HTTPError(422, violations(error)) from error

    return read


def _form_reader(kind: Any, name: str, parse_form: ParseForm | str | None) -> Reader:
    if getattr(kind, "__name__", "") == "UploadFile" or kind is Any:
        adapter = None
    else:
        import pydantic

        adapter = pydantic.TypeAdapter(kind)

    def read(body: Buffer, meta: bytes) -> Any:
        content_type = decode_meta(meta).content_type if meta else ""
        form = _parse(parse_form, body, content_type)
        if adapter is None:
            if name not in form:
                raise HTTPError(
                    422, [_violation("missing", ["body", name], "Field required", None)]
                )
            return form[name]
        try:
            return adapter.validate_python(dict(form))
        except ValueError as error:  # pydantic's ValidationError is one
            raise HTTPError(422, violations(error)) from error

    return read


def violations(error: Any) -> list[dict[str, Any]]:
    """Return a pydantic ValidationError's errors as FastAPI answers them."""
    found = []
    try:
        text = error.json(include_url=False)
    except ValueError:  # what was sent is no Unicode (a lone surrogate) and cannot be sent back
        return [_violation("value_error", ["body"], str(error.errors()[0]["msg"]), None)]
    for item in json.loads(text):
        item["loc"] = ["body", *item["loc"]]
        found.append(item)
    return found


def _violation(kind: str, loc: list[Any], message: str, value: Any) -> dict[str, Any]:
    return {"type": kind, "loc": loc, "msg": message, "input": value}
