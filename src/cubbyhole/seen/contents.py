# SPDX-License-Identifier: Apache-2.0
"""The bytes of a body as something to look at: JSON laid out, text, tensors by type and shape, an image's format, else a hex dump.

Flow:  payloads.py -> **describe_content** -> cli/payload.py, inspector/app.py
Owns:  nothing; what it is given may be anything, from anybody.
"""

from __future__ import annotations

import io
import math
from tokenize import TokenError
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from cubbyhole.seen.images import image_type, is_showable
from cubbyhole.seen.payloads import JSON_TYPE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from cubbyhole.seen.payloads import Payload

TEXT_CHARACTERS = 100_000  # what a browser still lays out at once
HEX_BYTES = 2048
HEX_LINE_BYTES = 16
TENSORS_MOST = 64
HEAD_LENGTH = "inference-header-content-length"
_NUMERIC = "biuf"
_OIP_TYPES = {
    "BOOL": "?",
    **{f"{sign}INT{bits}": f"<{kind}{bits // 8}"
       for sign, kind in (("", "i"), ("U", "u")) for bits in (8, 16, 32, 64)},
    "FP16": "<f2",
    "FP32": "<f4",
    "FP64": "<f8",
}  # fmt: skip


class Tensor(msgspec.Struct, frozen=True, kw_only=True):
    """A tensor by its outside. The numbers only where asked for, and where all of it is here."""

    name: str = ""
    dtype: str
    shape: tuple[int, ...]
    least: float | None = None
    most: float | None = None
    mean: float | None = None


class Content(msgspec.Struct, frozen=True, kw_only=True):
    """A body to look at.

    Attributes:
        kind: "json", "text", "tensors", "image", "binary" or "empty".
        content_type: As it was sent; of an image, what its bytes say.
        size_bytes: Of the whole body.
        shown_bytes: Of what was looked at.
        text: For "json", "text" and "binary" (a hex dump); of tensors their JSON head, if they have one.
        tensors: For "tensors".
        cut: Whether `text` is not all of it.
    """

    kind: str
    content_type: str = ""
    size_bytes: int = 0
    shown_bytes: int = 0
    text: str = ""
    tensors: tuple[Tensor, ...] = ()
    cut: bool = False


def head_bytes_of(headers: Iterable[tuple[str, str]]) -> int:
    """Return the length of an Open Inference Protocol body's JSON head, as its headers say; 0: they do not."""
    said = next((value for name, value in headers if name.lower() == HEAD_LENGTH), "")
    return int(said) if said.isascii() and said.isdigit() and len(said) < 12 else 0


def describe_content(
    data: bytes,
    content_type: str,
    size_bytes: int,
    *,
    head_bytes: int = 0,
    statistics: bool = False,
) -> Content:
    """Return a body as something to look at.

    Args:
        data: Its first bytes, or all of them.
        content_type: As it was sent.
        size_bytes: How many there are.
        head_bytes: Of an Open Inference Protocol body: length of its JSON head; 0: it has none.
        statistics: Read tensors through, for least, most and mean.
    """
    whole = len(data) >= size_bytes
    outside: dict[str, Any] = {
        "content_type": content_type,
        "size_bytes": size_bytes,
        "shown_bytes": len(data),
    }
    if not data:
        return Content(kind="empty", **outside)
    if is_showable(data):
        return Content(kind="image", **{**outside, "content_type": image_type(data)})
    if data.startswith(b"\x93NUMPY"):
        tensor = _read_npy(data, statistics=statistics and whole)
        if tensor is not None:
            return Content(kind="tensors", tensors=(tensor,), **outside)
    if 0 < head_bytes <= len(data):
        found = _read_oip(data, head_bytes, statistics=statistics and whole)
        if found is not None:
            return Content(kind="tensors", text=found[0], tensors=found[1], **outside)
    kind, text = _as_text(data, content_type, whole=whole)
    shortened = len(text) > TEXT_CHARACTERS
    if kind == "binary":
        shortened = size_bytes > HEX_BYTES
    return Content(kind=kind, text=text[:TEXT_CHARACTERS], cut=shortened or not whole, **outside)


def describe_payload(payload: Payload, *, statistics: bool = False) -> dict[str, Content]:
    """Return what an entry holds as something to look at, by "request" and "result"; without what is not there."""
    parts = (
        ("request", payload.request, payload.request_type, payload.request_bytes),
        ("result", payload.result, payload.result_type, payload.result_bytes),
    )
    headers = {"request": payload.request_meta.headers, "result": payload.result_meta.headers}
    return {
        name: describe_content(
            data,
            content_type,
            size_bytes,
            head_bytes=head_bytes_of(headers[name]),
            statistics=statistics,
        )
        for name, data, content_type, size_bytes in parts
        if data is not None
    }


def _as_text(data: bytes, content_type: str, *, whole: bool) -> tuple[str, str]:
    if whole and (JSON_TYPE in content_type or data[:1] in b'{["'):
        try:
            return "json", msgspec.json.format(data, indent=2).decode()
        except (msgspec.DecodeError, UnicodeDecodeError):
            pass
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        if whole or error.start < len(data) - 3:  # else only the cut went through a character
            return "binary", hex_dump(data)
        text = data[: error.start].decode()
    if any(ord(character) < 9 for character in text[:1000]):
        return "binary", hex_dump(data)
    return "text", text


def hex_dump(data: bytes) -> str:
    """Return the first bytes as lines of offset, hexadecimal and characters."""
    lines = []
    for at in range(0, min(len(data), HEX_BYTES), HEX_LINE_BYTES):
        part = data[at : at + HEX_LINE_BYTES]
        characters = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in part)
        lines.append(f"{at:08x}  {part.hex(' '):<{HEX_LINE_BYTES * 3 - 1}}  {characters}")
    return "\n".join(lines)


def _read_npy(data: bytes, *, statistics: bool) -> Tensor | None:
    file = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else (
            np.lib.format.read_array_header_2_0
        )  # fmt: skip
        shape, _, dtype = read(file)
    except (ValueError, OSError, TypeError, SyntaxError, TokenError, RecursionError, MemoryError):
        return None
    return _tensor("", dtype, shape, data[file.tell() :], statistics=statistics)


def _read_oip(
    data: bytes, head_bytes: int, *, statistics: bool
) -> tuple[str, tuple[Tensor, ...]] | None:
    try:
        head = msgspec.json.decode(data[:head_bytes])
        text = msgspec.json.format(data[:head_bytes], indent=2).decode()
        tensors = tuple(_oip_tensors(head, data[head_bytes:], statistics=statistics))
    except (
        msgspec.DecodeError,
        UnicodeDecodeError,
        KeyError,
        TypeError,
        ValueError,
        AttributeError,
    ):
        return None
    return text[:TEXT_CHARACTERS], tensors


def _oip_tensors(head: Any, raw: bytes, *, statistics: bool) -> Iterator[Tensor]:
    at = 0
    for one in [*head.get("inputs", []), *head.get("outputs", [])][:TENSORS_MOST]:
        size_bytes = int(one.get("parameters", {}).get("binary_data_size", 0))
        name, datatype = str(one["name"]), str(one["datatype"])
        shape = tuple(int(size) for size in one["shape"])
        part = raw[at : at + max(0, size_bytes)]
        at += max(0, size_bytes)
        if datatype in _OIP_TYPES:
            dtype = np.dtype(_OIP_TYPES[datatype])
            tensor = _tensor(name, dtype, shape, part, statistics=statistics and bool(part))
            yield msgspec.structs.replace(tensor, dtype=datatype)
        else:  # BF16, BYTES: numpy has no view of them
            yield Tensor(name=name, dtype=datatype, shape=shape)


def _tensor(
    name: str, dtype: np.dtype[Any], shape: tuple[int, ...], raw: bytes, *, statistics: bool
) -> Tensor:
    outside: dict[str, Any] = {"name": name, "dtype": str(dtype), "shape": shape}
    count = math.prod(shape)
    if (
        not statistics
        or dtype.kind not in _NUMERIC
        or not count
        or len(raw) < count * dtype.itemsize
    ):
        return Tensor(**outside)
    values = np.frombuffer(raw, dtype, count)
    numbers = (float(values.min()), float(values.max()), float(values.mean(dtype=np.float64)))
    least, most, mean = (number if math.isfinite(number) else None for number in numbers)
    return Tensor(**outside, least=least, most=most, mean=mean)
