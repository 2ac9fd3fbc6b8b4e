# SPDX-License-Identifier: Apache-2.0
"""MessagePack: plain data, in which an array is the map that the package msgpack-numpy writes.

    {b"nd": true, b"type": "<f4", b"kind": "", b"shape": [2, 3], b"data": bytes}        an array
    {b"nd": false, b"type": "<f4", b"data": bytes}                                      a numpy scalar

These keys are bytes there; we take text, too. Types with fields and Python objects (kind "V", "O") are refused. An array is a
view of the bytes object that the decoder made of it: one copy.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import msgspec

from cubbyhole.core.errors import MalformedBody

if TYPE_CHECKING:
    from cubbyhole.core.entries import Buffer

_decode = msgspec.msgpack.Decoder().decode
_KINDS = frozenset("?bBhHiIlLqQefdFD")  # numpy's characters of types without fields or objects


def read_packed(body: Buffer) -> Any:
    """Read a value.

    Raises:
        MalformedBody: it is no MessagePack, or an array in it is not what it says.
    """
    try:
        value = _decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise MalformedBody(f"Request body is no MessagePack: {str(error)[:200]}") from error
    try:
        return _with_arrays(value)
    except RecursionError as error:
        raise MalformedBody("Request body is MessagePack nested too deeply to be read.") from error


def _with_arrays(value: Any) -> Any:
    if type(value) is dict:
        if "nd" in value or b"nd" in value:
            return _array({_text(key): part for key, part in value.items()})
        return {key: _with_arrays(part) for key, part in value.items()}
    if type(value) is list:
        return [_with_arrays(part) for part in value]
    return value


def _text(key: Any) -> Any:
    return key.decode("latin-1") if type(key) is bytes else key


def _array(parts: dict[Any, Any]) -> Any:
    import numpy as np

    code, data = parts.get("type"), parts.get("data")
    code = _text(code)
    shape = parts.get("shape", []) if parts["nd"] else []
    if not (
        type(code) is str
        and type(data) is bytes
        and type(shape) is list
        and len(shape) <= 32
        and all(type(size) is int and size >= 0 for size in shape)
    ):
        raise MalformedBody(
            "Request body is MessagePack with an array that lacks type, shape or data."
        )
    try:
        dtype = np.dtype(code)
    except (TypeError, ValueError, SyntaxError) as error:
        raise MalformedBody(f"Request body has an array of type {code[:32]!r}.") from error
    if dtype.char not in _KINDS:
        raise MalformedBody(f"Request body has an array of type {code[:32]!r}, which is not read.")
    wanted = math.prod(shape) * dtype.itemsize
    if wanted != len(data):
        raise MalformedBody(
            f"Request body has an array said to take {wanted:.4g} bytes; it has {len(data)}."
        )
    array = np.frombuffer(data, dtype).reshape(shape)
    return array if parts["nd"] else array[()]


def write_packed(value: Any) -> bytes:
    """Write a value; arrays and tensors in it as msgpack-numpy does.

    Raises:
        TypeError: it holds something that is neither plain data nor an array.
    """
    return msgspec.msgpack.encode(value, enc_hook=_plain)


def _plain(value: Any) -> Any:
    import numpy as np

    if hasattr(value, "model_dump"):
        return value.model_dump()
    if hasattr(value, "detach") and hasattr(value, "numpy"):  # a tensor
        value = value.detach().cpu().numpy()
    if isinstance(value, np.ndarray) and value.dtype.char in _KINDS:
        return {
            b"nd": True,
            b"type": value.dtype.str,
            b"kind": "",
            b"shape": list(value.shape),
            b"data": value.tobytes(),
        }
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"The answer holds a {type(value).__name__}, which MessagePack does not have.")
