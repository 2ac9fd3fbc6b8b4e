# SPDX-License-Identifier: Apache-2.0
"""Image files as pixels, and the pixels that a small file only claims."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cubbyhole.core.errors import MalformedBody, PayloadTooLarge
from cubbyhole.formats.reading import BodyReader
from cubbyhole.worker.reading import reader_for

PIXELS = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)


def encoded(kind: str) -> bytes:
    out = io.BytesIO()
    Image.fromarray(PIXELS).save(out, kind)
    return out.getvalue()


def claims(width: int, height: int) -> bytes:
    """A PNG whose head says so, with hardly any data."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + rows


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
def test_an_image_is_an_array_of_its_pixels(kind: str) -> None:
    read = BodyReader("array", ("image",)).read
    np.testing.assert_array_equal(read(encoded(kind), f"image/{kind.lower()}"), PIXELS)


def test_an_image_by_annotation() -> None:
    def decode(request: Image.Image) -> None:
        """Stand for a decode_request."""

    meta: Any = __import__("msgspec").msgpack.encode(("image/png", "", [], "", ""))
    image = reader_for(decode, None)(encoded("PNG"), meta)
    assert image.size == (3, 2)


@pytest.mark.parametrize("size", [(10_000, 10_000), (60_000, 60_000)])
def test_a_bomb_is_refused_before_it_is_unpacked(size: tuple[int, int]) -> None:
    with pytest.raises(PayloadTooLarge, match="pixels"):
        BodyReader("array", ("image",)).read(claims(*size), "image/png")


def test_what_is_no_image_is_refused() -> None:
    for body in (b"", b"GIF89a", encoded("PNG")[:40], b"%PDF-1.4", claims(3, 2)):
        with pytest.raises(MalformedBody):
            BodyReader("image", ("image",)).read(body, "image/png")
