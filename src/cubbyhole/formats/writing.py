# SPDX-License-Identifier: Apache-2.0
"""A value as the bytes of a format.

Flow:  worker/answers.py, client -> **write_body**
Owns:  nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cubbyhole.core.entries import ResultMeta
from cubbyhole.formats import media
from cubbyhole.formats.parts import Parts, pad_npy, pad_safetensors

if TYPE_CHECKING:
    from collections.abc import Callable


def write_body(name: str, value: Any) -> Parts:
    """Return a body in parts. Large arrays are not copied.

    Args:
        name: Of a format other than JSON and forms.
        value: An array or tensor for npy; arrays by name for safetensors and Arrow; plain data with arrays for MessagePack;
            a buffer for raw bytes.

    Raises:
        TypeError: the format cannot hold such a value.
    """
    parts = _WRITERS[name](value)
    parts.meta = ResultMeta(media.media_type(name))
    return parts


def _write_npy(value: Any) -> Parts:
    from cubbyhole.formats.npy import write_npy
    from cubbyhole.formats.tensors import array_of

    head, data = write_npy(array_of(value))
    return Parts(head, [data], pad_npy)


def _write_safetensors(value: Any) -> Parts:
    from cubbyhole.formats.safetensors import write_safetensors
    from cubbyhole.formats.tensors import array_of

    if not hasattr(value, "items"):
        raise TypeError(
            f"safetensors hold arrays by name, but this is a {type(value).__name__}. Give a dict of arrays."
        )
    head, *arrays = write_safetensors({name: array_of(part) for name, part in value.items()})
    return Parts(head, arrays, pad_safetensors)


def _write_packed(value: Any) -> Parts:
    from cubbyhole.formats.packed import write_packed

    return Parts(write_packed(value), [])


def _write_arrow(value: Any) -> Parts:
    from cubbyhole.formats.arrow import write_arrow

    return Parts(b"", [write_arrow(value)])


def _write_raw(value: Any) -> Parts:
    try:
        view = memoryview(value)
    except TypeError as error:
        raise TypeError(
            f"Raw bytes cannot be made of a {type(value).__name__}. Give bytes, a memoryview or an array."
        ) from error
    return Parts(b"", [view.cast("B") if view.c_contiguous else view.tobytes()])


_WRITERS: dict[str, Callable[[Any], Parts]] = {
    media.NPY: _write_npy,
    media.SAFETENSORS: _write_safetensors,
    media.MSGPACK: _write_packed,
    media.ARROW: _write_arrow,
    media.RAW: _write_raw,
}
