# SPDX-License-Identifier: Apache-2.0
"""What `encode_response` returned -> final bytes, with status and headers.

    dict, list, str, number, bool, None, model, dataclass, array, ...   JSON, as FastAPI writes it
    bytes, bytearray, memoryview                                       application/octet-stream, as they are
    Response (FastAPI's or alike)                                      its status, headers and body; a buffer is not copied

An API with `answer_formats` gives what its client accepts: npy, safetensors, MessagePack, Arrow, raw bytes.

Values of a stream go out as they come: str and bytes raw, dicts and models as lines of JSON, without content type.

Flow:  runner.py, streams.py -> **answers.py** -> WorkerPort.publish
Owns:  nothing.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec

from cubbyhole.core.entries import RequestMeta, Result, ResultMeta
from cubbyhole.core.errors import HTTPError
from cubbyhole.formats.media import JSON, choose_format, media_type
from cubbyhole.formats.parts import Parts
from cubbyhole.formats.writing import write_body

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cubbyhole.core.entries import Buffer

_encode_scalars = msgspec.json.Encoder().encode
_TEXT = frozenset((str,))
_SCALARS = frozenset((str, int, float, bool, type(None)))
encode_meta = msgspec.msgpack.Encoder().encode
decode_meta = msgspec.msgpack.Decoder(RequestMeta).decode
STREAM_META = encode_meta(ResultMeta())  # LitServe's streams have no content type
BYTES_META = encode_meta(ResultMeta(content_type="application/octet-stream"))


def encode_answer(value: Any) -> Result:
    """Make the final answer of a value.

    Raises:
        TypeError: nothing can be made of it; says which type.
    """
    kind = type(value)
    if kind is dict or kind is list or kind is str:
        return Result(encode_json(value))
    special = _SPECIAL.get(kind)
    if special is not None:
        return special(value)
    if hasattr(value, "status_code") and hasattr(value, "headers"):
        return _encode_response(value)
    return Result(encode_json(value))


def encode_negotiated(value: Any, meta: bytes, formats: Sequence[str]) -> Result:
    """Make the final answer of a value in the format that its client likes best among those of `LitAPI.answer_formats`.

    A `Response` and, among formats without "raw", bytes are sent as they are: whoever makes one has chosen by himself.

    Returns:
        A result whose body is in parts still (`rooms.py`), but for what is sent as it is.

    Raises:
        HTTPError: 406, the client accepts none of them.
        TypeError: the value cannot be written in that format.
    """
    if hasattr(value, "status_code") and hasattr(value, "headers"):
        return _encode_response(value)
    accept = dict(decode_meta(meta).headers).get("accept", "") if meta else ""
    name = choose_format(accept, formats)
    if name is None:
        offered = ", ".join(media_type(one) for one in formats)
        raise HTTPError(406, f"The answer can be had as {offered}.")
    if type(value) in _SPECIAL:
        return encode_answer(value)
    parts = Parts(encode_json(value), []) if name == JSON else write_body(name, value)
    vary = [("vary", "Accept")] if len(formats) > 1 else []
    parts.meta = ResultMeta(media_type(name), vary)
    return Result(parts)


def encode_json(value: Any) -> bytes:
    """JSON in UTF-8. Bytes within are text, NaN is null; arrays and tensors are nested lists; lone surrogates stay escapes.

    pydantic's encoder writes what FastAPI's does, where msgspec's has bytes in base64 and refuses subclasses. For a dict
    of scalars the two agree, and its worker is spared pydantic's 23 ms and 3 MiB at start.
    """
    if (
        type(value) is dict
        and _SCALARS.issuperset(map(type, value.values()))
        and _TEXT.issuperset(map(type, value))
    ):
        try:
            return _encode_scalars(value)
        except UnicodeEncodeError:
            return _encode_escaped(value)
    from pydantic_core import to_json

    try:
        return to_json(value, fallback=_plain, timedelta_mode="float", inf_nan_mode="null")
    except ValueError as error:
        if "surrogates" not in str(error):
            raise
    return _encode_escaped(value)


def _encode_escaped(value: Any) -> bytes:
    """JSON in ASCII, which alone can say a lone surrogate: a client that sent one may have it back."""
    from pydantic_core import to_jsonable_python

    def plain(inner: Any) -> Any:
        return to_jsonable_python(
            inner, fallback=_plain, timedelta_mode="float", inf_nan_mode="null"
        )

    return json.dumps(value, default=plain).encode()


def encode_chunk(value: Any) -> Buffer:
    """Make the bytes of one value of a stream, as LitAPI's own `format_encoded_response` does.

    Raises:
        TypeError: it is neither str, bytes, dict nor model.
    """
    if type(value) is str:
        return value.encode()
    if type(value) is dict:
        return (json.dumps(value) + "\n").encode()
    return _encode_formatted(value)


def chunk_encoder(format_value: Callable[[Any], Any] | None) -> Callable[[Any], Buffer]:
    """Return the function that makes a stream's bytes; `format_value` is a user's own `format_encoded_response`."""
    if format_value is None:
        return encode_chunk
    return lambda value: _encode_formatted(format_value(value))


def _encode_formatted(value: Any) -> Buffer:
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, bytes | bytearray | memoryview):
        return value
    if isinstance(value, dict):
        return (json.dumps(value) + "\n").encode()
    if hasattr(value, "model_dump_json"):
        return str(value.model_dump_json() + "\n").encode()
    raise TypeError(
        f"A stream's value is {type(value).__name__}, but str, bytes, dict or a pydantic model can be sent. "
        "Convert it in encode_response or format_encoded_response."
    )


def _raw(value: Buffer) -> Result:
    return Result(flat_buffer(value), 200, BYTES_META)


_SPECIAL: dict[type, Callable[[Any], Result]] = {bytes: _raw, bytearray: _raw, memoryview: _raw}


def flat_buffer(value: Buffer) -> Buffer:
    """A buffer as one run of bytes; copied only if it is not one in memory."""
    if type(value) is bytes:
        return value
    view = memoryview(value)
    if not view.c_contiguous:
        return view.tobytes()
    return view if view.ndim == 1 and view.itemsize == 1 else view.cast("B")


def _encode_response(response: Any) -> Result:
    body = getattr(response, "body", None)
    if body is None:
        raise TypeError(
            f"{type(response).__name__} has no body to send. Return its content, or use stream=True and yield."
        )
    pairs = getattr(response, "raw_headers", None)
    if pairs is None:
        pairs = list(response.headers.items())
    content_type = None
    headers = []
    for raw_name, raw_value in pairs:
        name, value = _text(raw_name), _text(raw_value)
        if name.lower() == "content-type":
            content_type = value
        elif name.lower() != "content-length":  # the front counts itself
            headers.append((name, value))
    meta = encode_meta(ResultMeta(content_type=content_type, headers=headers))
    body = body.encode() if isinstance(body, str) else flat_buffer(body)
    return Result(body, int(response.status_code), meta)


def _text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def _plain(value: Any) -> Any:
    """For `to_json`: what it does not know, as FastAPI's jsonable_encoder would take it, and arrays."""
    if hasattr(value, "__await__") and hasattr(value, "close"):
        value.close()
        raise TypeError(
            "A hook is a coroutine function, but the API is synchronous. Make it LitAPI(enable_async=True)."
        )
    if hasattr(value, "tolist"):  # numpy arrays and scalars, torch tensors
        return value.tolist()
    if hasattr(value, "__fspath__"):
        return value.__fspath__()
    if isinstance(value, msgspec.Struct):
        return msgspec.to_builtins(value)
    if hasattr(value, "items"):
        return dict(value.items())
    if hasattr(value, "__iter__"):
        return list(value)
    if hasattr(value, "__dict__") and not callable(value):
        return vars(value)
    raise TypeError(
        f"The answer holds a {type(value).__name__}, which cannot be written as JSON. Convert it in encode_response."
    )
