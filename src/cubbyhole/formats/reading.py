# SPDX-License-Identifier: Apache-2.0
"""A body, by its content type, as what somebody asked for: the one table of what can be read as what.

    asked for     npy     safetensors      msgpack               arrow             image
    value         array   dict of arrays   plain data, arrays    pyarrow.Table     PIL.Image
    array         array   its only one     the array             its only column   uint8 (height, width, 3)
    arrays        -       dict of arrays   a map of arrays       columns           -
    tensor(s)     the same as torch tensors
    table         -       -                -                     pyarrow.Table     -
    image         -       -                -                     -                 PIL.Image

Flow:  worker/reading.py, client -> **BodyReader** -> decode_request, the caller
Owns:  nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from cubbyhole.core.errors import HTTPError, MalformedBody
from cubbyhole.formats import media

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cubbyhole.core.entries import Buffer

Asked: TypeAlias = Literal["value", "array", "arrays", "tensor", "tensors", "table", "image"]

# What an API reads where it declares nothing, by what its decode_request asks for.
USUAL: dict[Asked, tuple[str, ...]] = {
    "array": (media.NPY,),
    "tensor": (media.NPY,),
    "arrays": (media.SAFETENSORS, media.MSGPACK),
    "tensors": (media.SAFETENSORS, media.MSGPACK),
    "table": (media.ARROW,),
    "image": (media.IMAGE,),
}


class BodyReader:
    """Reads bodies of the formats that an API allows.

    Args:
        asked: What its caller wants to have.
        formats: Names; the server decides which, never a header.
    """

    def __init__(self, asked: Asked, formats: Sequence[str]) -> None:
        self._asked = asked
        self._readers = {name: _READERS[name]() for name in formats if name in _READERS}

    def read(self, body: Buffer, content_type: str) -> Any:
        """Read a body.

        Raises:
            HTTPError: 415, a content type that is not allowed here.
            MalformedBody: the body is not what its content type says, or not what was asked for.
        """
        reader = self._readers.get(media.format_of(content_type) or "")
        if reader is None:
            known = ", ".join(one for name in self._readers for one in media.MEDIA_TYPES[name])
            raise HTTPError(
                415, f"Content type {content_type[:80]!r} is not read here. Send {known}."
            )
        if self._asked == "tensors" and reader is _safetensors_reader():
            from cubbyhole.formats.tensors import read_tensors  # which keeps bfloat16

            return read_tensors(body)
        return as_asked(self._asked, reader(body))


def _npy_reader() -> Callable[[Buffer], Any]:
    from cubbyhole.formats.npy import read_npy

    return read_npy


def _safetensors_reader() -> Callable[[Buffer], Any]:
    from cubbyhole.formats.safetensors import read_safetensors

    return read_safetensors


def _packed_reader() -> Callable[[Buffer], Any]:
    from cubbyhole.formats.packed import read_packed

    return read_packed


def _arrow_reader() -> Callable[[Buffer], Any]:
    from cubbyhole.formats.arrow import read_arrow

    return read_arrow


def _image_reader() -> Callable[[Buffer], Any]:
    from cubbyhole.formats.images import read_image

    return read_image


_READERS: dict[str, Callable[[], Callable[[Buffer], Any]]] = {
    media.NPY: _npy_reader,
    media.SAFETENSORS: _safetensors_reader,
    media.MSGPACK: _packed_reader,
    media.ARROW: _arrow_reader,
    media.IMAGE: _image_reader,
}


_KIND_OF = {"table": "column_names", "image": "getbands"}  # by an attribute that only they have


def as_asked(asked: Asked, value: Any) -> Any:
    """Make of what a format holds what was asked for.

    Raises:
        MalformedBody: it cannot be made of it.
    """
    if asked in _KIND_OF and not hasattr(value, _KIND_OF[asked]):
        raise MalformedBody(f"Request body holds no {asked}.")
    if asked == "value" or asked in _KIND_OF:
        return value
    if hasattr(value, "getbands"):
        from cubbyhole.formats.images import pixels

        value = pixels(value)
    if hasattr(value, "column_names"):
        from cubbyhole.formats.arrow import columns

        value = columns(value)
    if asked in {"arrays", "tensors"}:
        return _several(value, as_tensors=asked == "tensors")
    if type(value) is dict and len(value) == 1:
        value = next(iter(value.values()))
    return _one(value, as_tensor=asked == "tensor")


def _several(value: Any, *, as_tensors: bool) -> dict[str, Any]:
    if type(value) is not dict:
        raise MalformedBody("Request body holds one value, where arrays by name are expected.")
    return {name: _one(part, as_tensor=as_tensors) for name, part in value.items()}


def _one(value: Any, *, as_tensor: bool) -> Any:
    import numpy as np

    if not isinstance(value, np.ndarray):
        raise MalformedBody(
            f"Request body holds {type(value).__name__}, where an array is expected."
        )
    if not as_tensor:
        return value
    from cubbyhole.formats.tensors import tensor_of

    try:
        return tensor_of(value)
    except (TypeError, ValueError) as error:  # a type that torch does not have
        raise MalformedBody(
            f"Request body holds an array of type {value.dtype}, which torch does not have."
        ) from error
