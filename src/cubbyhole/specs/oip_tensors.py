# SPDX-License-Identifier: Apache-2.0
"""Tensors of the Open Inference Protocol: raw little-endian bytes or JSON <-> numpy.

    BOOL, UINT8..64, INT8..64, FP16, FP32, FP64     the numpy type; raw bytes become a read-only view, not a copy
    BF16                                            float32 in numpy, which has no bfloat16: widened in, rounded to even out
    BYTES                                           an object array of `bytes`

What comes in is hostile: each size is compared with what is there before anything of that size is made.

Flow:  oip_bodies.py -> **from_raw**, **from_json** -> predict -> **as_declared** -> **to_raw**, **to_json**
Owns:  nothing.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from cubbyhole.core.errors import HTTPError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

NUMPY_TYPES = {
    "BOOL": "?",
    **{f"UINT{bits}": f"<u{bits // 8}" for bits in (8, 16, 32, 64)},
    **{f"INT{bits}": f"<i{bits // 8}" for bits in (8, 16, 32, 64)},
    "FP16": "<f2",
    "FP32": "<f4",
    "FP64": "<f8",
    "BF16": "<f4",
    "BYTES": "O",
}
_OWN_NAMES = {"bfloat16": "BF16", "bytes": "BYTES", "str": "BYTES", "object": "BYTES"}
_JSON_TYPES: dict[str, set[type]] = {
    "b": {bool},
    "u": {int},
    "i": {int},
    "f": {int, float},
    "O": {str},
}
_LENGTH_BYTES = 4  # before each element of BYTES
_SHOWN_CHARACTERS = 64  # of a client's text in an error


class TensorSpec(msgspec.Struct, frozen=True):
    """What the server declares about one input or output.

    Attributes:
        name: The protocol's name of it.
        datatype: The protocol's, e.g. "FP32".
        shape: Each dimension, -1 for any.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]

    def described(self) -> dict[str, Any]:
        """Return it as the metadata endpoint shows it."""
        return {"name": self.name, "datatype": self.datatype, "shape": list(self.shape)}


def declare(name: str, datatype: str, shape: Sequence[int]) -> TensorSpec:
    """Make a `TensorSpec` of what a user wrote.

    Raises:
        ValueError: no such type, or a dimension below -1.
    """
    dimensions = tuple(int(size) for size in shape)
    if any(size < -1 for size in dimensions):
        raise ValueError(
            f"Tensor {name!r} has shape {list(shape)}: use -1 for a dimension of any size."
        )
    return TensorSpec(name, _protocol_name(name, datatype), dimensions)


def _protocol_name(name: str, datatype: str) -> str:
    if datatype in NUMPY_TYPES:
        return datatype
    if datatype in _OWN_NAMES:
        return _OWN_NAMES[datatype]
    try:
        wanted = np.dtype(datatype).newbyteorder("<")
    except TypeError:
        wanted = None
    for known, own in NUMPY_TYPES.items():
        if wanted is not None and np.dtype(own) == wanted:
            return known
    raise ValueError(
        f"Tensor {name!r} has type {datatype!r}. Use a numpy name such as 'float32', 'bfloat16', 'bytes', "
        f"or one of {', '.join(NUMPY_TYPES)}."
    )


def shown(text: object) -> str:
    """Return a client's text for an error, not longer than it helps."""
    quoted = repr(text)
    return quoted if len(quoted) <= _SHOWN_CHARACTERS else quoted[:_SHOWN_CHARACTERS] + "..."


def refused(text: str) -> HTTPError:
    """Refuse a request."""
    return HTTPError(400, text)


def check_head(spec: TensorSpec, datatype: str, shape: list[int]) -> int:
    """Compare what a client says about a tensor with what is declared.

    Returns:
        The number of elements.

    Raises:
        HTTPError: 400 if they differ.
    """
    name = spec.name
    if datatype != spec.datatype:
        raise refused(
            f"Input {name!r} has datatype {shown(datatype)}, the model takes {spec.datatype}."
        )
    fits = len(shape) == len(spec.shape) and all(
        size >= 0 and declared in {-1, size}
        for size, declared in zip(shape, spec.shape, strict=True)
    )
    if not fits:
        raise refused(
            f"Input {name!r} has shape {shown(shape)}, the model takes {list(spec.shape)}."
        )
    return math.prod(shape)


def from_raw(spec: TensorSpec, shape: list[int], count: int, raw: memoryview) -> np.ndarray:
    """Read a tensor from its bytes; a read-only view of them but for BF16 and BYTES.

    Raises:
        HTTPError: 400 if the bytes are not exactly those of the shape.
    """
    if spec.datatype == "BYTES":
        return _shaped(_elements(spec, count, raw), shape, spec)
    item_bytes = 2 if spec.datatype == "BF16" else np.dtype(NUMPY_TYPES[spec.datatype]).itemsize
    if len(raw) != count * item_bytes:
        raise refused(
            f"Input {spec.name!r} of shape {shown(shape)} and datatype {spec.datatype} has {count * item_bytes} bytes, "
            f"but binary_data_size is {len(raw)}."
        )
    if spec.datatype == "BF16":
        widened = np.frombuffer(raw, "<u2").astype("<u4")
        widened <<= 16
        values: np.ndarray = widened.view("<f4")
        values.flags.writeable = False
    elif spec.datatype == "BOOL":
        bits = np.frombuffer(raw, np.uint8)
        if count and int(bits.max()) > 1:  # a bool of another bit pattern is undefined in C
            raise refused(f"Input {spec.name!r} is BOOL, but holds bytes other than 0 and 1.")
        values = bits.view(np.bool_)
    else:
        values = np.frombuffer(raw, NUMPY_TYPES[spec.datatype])
    return _shaped(values, shape, spec)


def _elements(spec: TensorSpec, count: int, raw: memoryview) -> np.ndarray:
    if count * _LENGTH_BYTES > len(raw):
        raise refused(
            f"Input {spec.name!r} has {count} elements, for which its {len(raw)} bytes are too few."
        )
    values = np.empty(count, object)
    start = 0
    for index in range(count):
        first = start + _LENGTH_BYTES
        end = first + int.from_bytes(raw[start:first], "little")
        if first > len(raw) or end > len(raw):
            raise refused(f"Input {spec.name!r} ends within its element {index}.")
        values[index] = bytes(raw[first:end])
        start = end
    if start != len(raw):
        raise refused(f"Input {spec.name!r} has {len(raw) - start} bytes after its last element.")
    values.flags.writeable = False
    return values


def _shaped(values: np.ndarray, shape: list[int], spec: TensorSpec) -> np.ndarray:
    try:
        return values.reshape(shape)
    except (ValueError, OverflowError) as error:  # empty, with a dimension that numpy cannot count
        raise refused(
            f"Input {spec.name!r} has shape {shown(shape)}, which is too large."
        ) from error


def from_json(spec: TensorSpec, shape: list[int], count: int, data: Any) -> np.ndarray:
    """Read a tensor from JSON: its elements in a flat list, or nested as its shape is.

    Raises:
        HTTPError: 400 if their number or kind is not what the shape and the datatype say.
    """
    if not isinstance(data, list):
        raise refused(f"Input {spec.name!r} has data that is no list.")
    flat = list(_flattened(data, max(len(shape), 1), spec))
    if len(flat) != count:
        raise refused(
            f"Input {spec.name!r} of shape {shown(shape)} has {count} elements, but {len(flat)} were sent."
        )
    dtype = np.dtype(NUMPY_TYPES[spec.datatype])
    kinds = set(map(type, flat))
    if not kinds <= _JSON_TYPES[dtype.kind]:
        raise refused(f"Input {spec.name!r} holds elements that are not {spec.datatype}.")
    if dtype.kind == "O":
        values = np.empty(count, object)
        values[:] = [text.encode() for text in flat]
    else:
        if flat and dtype.kind in "ui":
            limits = np.iinfo(dtype)
            if min(flat) < limits.min or max(flat) > limits.max:
                raise refused(
                    f"Input {spec.name!r} holds numbers out of the range of {spec.datatype}."
                )
        try:
            with np.errstate(over="ignore"):
                values = np.array(flat, dtype)
        except OverflowError as error:
            raise refused(f"Input {spec.name!r} holds a number that is too large.") from error
    values.flags.writeable = False
    return _shaped(values, shape, spec)


def _flattened(data: list[Any], depth: int, spec: TensorSpec) -> Iterator[Any]:
    for item in data:
        if type(item) is not list:
            yield item
        elif depth > 1:
            yield from _flattened(item, depth - 1, spec)
        else:
            raise refused(f"Input {spec.name!r} is nested deeper than its shape.")


def as_declared(spec: TensorSpec, value: Any) -> np.ndarray:
    """Make what predict gave for an output an array of its declared type, which is not copied if it is one already.

    Raises:
        ValueError: the type cannot be converted without harm, or the shape is another.
    """
    if hasattr(value, "detach"):  # torch, maybe on a GPU
        value = value.detach().cpu()
        value = (value.float() if spec.datatype == "BF16" else value).numpy()
    dtype = np.dtype(NUMPY_TYPES[spec.datatype])
    array = np.asarray(value)
    if spec.datatype != "BYTES" and not np.can_cast(array.dtype, dtype, "same_kind"):
        raise ValueError(
            f"predict gave output {spec.name!r} as {array.dtype}, but {spec.datatype} is declared. Convert it in predict."
        )
    fits = array.ndim == len(spec.shape) and all(
        declared in {-1, size} for size, declared in zip(array.shape, spec.shape, strict=True)
    )
    if not fits:
        raise ValueError(
            f"predict gave output {spec.name!r} of shape {list(array.shape)}, but {list(spec.shape)} is declared."
        )
    return array.astype(dtype, copy=False)


def to_raw(spec: TensorSpec, array: np.ndarray) -> bytes | memoryview:
    """Return an output's bytes; a view where it lies in memory as the protocol wants it."""
    if spec.datatype == "BYTES":
        elements = [_as_bytes(item) for item in array.ravel()]
        return b"".join(len(item).to_bytes(_LENGTH_BYTES, "little") + item for item in elements)
    if spec.datatype == "BF16":
        bits = np.ascontiguousarray(array).reshape(-1).view("<u4")
        odd = (bits >> 16) & 1
        rounded = (bits.astype("<u8") + 0x7FFF + odd) >> 16
        array = np.where(np.isnan(array.reshape(-1)), 0x7FC0, rounded).astype("<u2")
    if array.size == 0:
        return b""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def to_json(spec: TensorSpec, array: np.ndarray) -> list[Any]:
    """Return an output's elements as a flat list.

    Raises:
        HTTPError: 400 for BYTES that are no text, which only the binary form can carry.
    """
    if spec.datatype != "BYTES":
        flat: list[Any] = array.ravel().tolist()
        return flat
    try:
        return [_as_bytes(item).decode() for item in array.ravel()]
    except UnicodeDecodeError as error:
        raise refused(
            f"Output {spec.name!r} holds bytes that are no UTF-8: ask for it with binary_data."
        ) from error


def _as_bytes(item: Any) -> bytes:
    return item.encode() if isinstance(item, str) else bytes(item)
