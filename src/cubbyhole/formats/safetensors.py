# SPDX-License-Identifier: Apache-2.0
"""Arrays by name, in the layout of safetensors: read as read-only views of their bytes, without the package and without a copy.

    length of the head u64 | JSON {name: {dtype, shape, data_offsets: [begin, end]}} | the arrays, end to end

The head is hostile: each size that it claims is compared with what is there, arrays may neither overlap nor leave a gap.
BF16 is float32 in numpy, which has no bfloat16 (a copy); torch's tensors keep it (`tensors.py`).

See:   https://huggingface.co/docs/safetensors, section Format
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from cubbyhole.core.errors import MalformedBody
from cubbyhole.formats.npy import raw_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cubbyhole.core.entries import Buffer

DTYPES = {
    "BOOL": "?",
    "U8": "u1",
    "I8": "i1",
    "U16": "<u2",
    "I16": "<i2",
    "U32": "<u4",
    "I32": "<i4",
    "U64": "<u8",
    "I64": "<i8",
    "F16": "<f2",
    "F32": "<f4",
    "F64": "<f8",
    "BF16": "<u2",  # its bits
}
_NAMES = {np.dtype(code): name for name, code in DTYPES.items() if name != "BF16"}
_LENGTH_BYTES = 8
_MOST_HEAD_BYTES = 1 << 20  # thousands of names; the package itself allows 100 MB
_MOST_DIMENSIONS = 32


class Entry(msgspec.Struct):
    """What the head says of one array."""

    dtype: str
    shape: list[int]
    data_offsets: tuple[int, int]


_decode_head = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_entry = msgspec.json.Decoder(Entry).decode


def read_raw(body: Buffer) -> dict[str, tuple[str, tuple[int, ...], memoryview]]:
    """Read and check the head.

    Returns:
        dtype name, shape and bytes by name.

    Raises:
        MalformedBody: it is not as the format says.
    """
    view = memoryview(body).cast("B").toreadonly()
    if len(view) < _LENGTH_BYTES:
        raise MalformedBody(f"Request body is no safetensors: {len(view)} bytes are too few.")
    head_bytes = int.from_bytes(view[:_LENGTH_BYTES], "little")
    if head_bytes > min(len(view) - _LENGTH_BYTES, _MOST_HEAD_BYTES):
        raise MalformedBody(
            f"Request body is no safetensors: it claims a head of {head_bytes:.4g} bytes, "
            f"{len(view) - _LENGTH_BYTES} follow and at most {_MOST_HEAD_BYTES} are read."
        )
    data = view[_LENGTH_BYTES + head_bytes :]
    try:
        head = _decode_head(view[_LENGTH_BYTES : _LENGTH_BYTES + head_bytes])
        head.pop("__metadata__", None)
        entries = {name: _decode_entry(raw) for name, raw in head.items()}
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedBody(f"Request body is no safetensors: {str(error)[:200]}") from error
    found, at = {}, 0
    for name, entry in sorted(entries.items(), key=lambda item: item[1].data_offsets):
        begin, end = entry.data_offsets
        _check_entry(name, entry, begin == at and begin <= end <= len(data))
        found[name] = (entry.dtype, tuple(entry.shape), data[begin:end])
        at = end
    if at != len(data):
        raise MalformedBody(
            f"Request body is safetensors with {len(data) - at} bytes of no array at its end."
        )
    return {name: found[name] for name in entries}


def _check_entry(name: str, entry: Entry, in_place: bool) -> None:
    begin, end = entry.data_offsets
    code = DTYPES.get(entry.dtype)
    if code is None:
        raise MalformedBody(
            f"Array {name[:64]!r} is of type {entry.dtype[:16]!r}; there are: {', '.join(DTYPES)}."
        )
    if len(entry.shape) > _MOST_DIMENSIONS or min(entry.shape, default=0) < 0:
        raise MalformedBody(f"Array {name[:64]!r} has a shape that cannot be.")
    wanted = math.prod(entry.shape) * np.dtype(code).itemsize
    if not in_place or wanted != end - begin:
        raise MalformedBody(
            f"Array {name[:64]!r} is said to take {wanted:.4g} bytes, at {begin} to {end}: that does not fit the body."
        )


def read_safetensors(body: Buffer) -> dict[str, Any]:
    """Read arrays by name.

    Returns:
        Read-only ndarrays on the body's bytes, in the order of the head; BF16 as a float32 copy.

    Raises:
        MalformedBody: it is not as the format says.
    """
    return {name: _array(*parts) for name, parts in read_raw(body).items()}


def _array(dtype: str, shape: tuple[int, ...], data: memoryview) -> Any:
    flat = np.frombuffer(data, DTYPES[dtype])
    if dtype == "BF16":
        flat = (flat.astype("<u4") << 16).view("<f4")
        flat.flags.writeable = False
    return flat.reshape(shape)


def write_safetensors(arrays: Mapping[str, Any]) -> list[Buffer]:
    """Return the parts of a body: a head, then each array's bytes, not copied where they lie in one run.

    Raises:
        TypeError: an array is of a type that the format does not have.
    """
    head: dict[str, Any] = {}
    parts: list[Buffer] = [b""]
    at = 0
    for name, value in arrays.items():
        array = np.asarray(value)
        dtype = _NAMES.get(array.dtype.newbyteorder("<"))
        if dtype is None:
            raise TypeError(
                f"Array {name!r} is of type {array.dtype}, which safetensors does not have."
            )
        data = raw_bytes(array.astype(array.dtype.newbyteorder("<"), copy=False))
        head[name] = {
            "dtype": dtype,
            "shape": array.shape,
            "data_offsets": (at, at + len(data)),
        }
        at += len(data)
        parts.append(data)
    text = msgspec.json.encode(head)
    text += b" " * (-len(text) % 8)  # so that the arrays begin at a multiple of eight
    parts[0] = len(text).to_bytes(_LENGTH_BYTES, "little") + text
    return parts
