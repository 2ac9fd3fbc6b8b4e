# SPDX-License-Identifier: Apache-2.0
"""A value as the bytes of a format.

Flow:  worker/answers.py, client -> **write_body**
Owns:  nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cubbyhole.formats import media

if TYPE_CHECKING:
    from collections.abc import Callable

    from cubbyhole.core.entries import Buffer


def write_body(name: str, value: Any) -> list[Buffer]:
    """Return the parts of a body, to be sent one after the other. Large arrays are not copied.

    Args:
        name: Of a format other than JSON and forms.
        value: An array or tensor for npy; arrays by name for safetensors and Arrow; plain data with arrays for MessagePack;
            a buffer for raw bytes.

    Raises:
        TypeError: the format cannot hold such a value.
    """
    return _WRITERS[name](value)


def _write_npy(value: Any) -> list[Buffer]:
    from cubbyhole.formats.npy import write_npy
    from cubbyhole.formats.tensors import array_of

    return write_npy(array_of(value))


def _write_safetensors(value: Any) -> list[Buffer]:
    from cubbyhole.formats.safetensors import write_safetensors
    from cubbyhole.formats.tensors import array_of

    if not hasattr(value, "items"):
        raise TypeError(
            f"safetensors hold arrays by name, but this is a {type(value).__name__}. Give a dict of arrays."
        )
    return write_safetensors({name: array_of(part) for name, part in value.items()})


def _write_packed(value: Any) -> list[Buffer]:
    from cubbyhole.formats.packed import write_packed

    return [write_packed(value)]


def _write_arrow(value: Any) -> list[Buffer]:
    from cubbyhole.formats.arrow import write_arrow

    return [write_arrow(value)]


def _write_raw(value: Any) -> list[Buffer]:
    try:
        view = memoryview(value)
    except TypeError as error:
        raise TypeError(
            f"Raw bytes cannot be made of a {type(value).__name__}. Give bytes, a memoryview or an array."
        ) from error
    return [view.cast("B") if view.c_contiguous else view.tobytes()]


_WRITERS: dict[str, Callable[[Any], list[Buffer]]] = {
    media.NPY: _write_npy,
    media.SAFETENSORS: _write_safetensors,
    media.MSGPACK: _write_packed,
    media.ARROW: _write_arrow,
    media.RAW: _write_raw,
}
