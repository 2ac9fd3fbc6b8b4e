# SPDX-License-Identifier: Apache-2.0
"""Format and size of an image, read from its first bytes; nothing is decoded here, a browser does that in its sandbox.

Four formats that every browser decodes; not SVG, which is a document with scripts. An image that says to be larger than
`PIXELS_MOST` is not given to a browser: a few hundred bytes can ask for gigabytes of pixels.

Flow:  contents.py, inspector/app.py -> **image_type**, **is_showable**
Owns:  nothing.
"""

from __future__ import annotations

import struct

PIXELS_MOST = 64_000_000  # 256 MB as the browser holds it; a large camera's picture has 60 million
_STARTS = {
    "image/png": (b"\x89PNG\r\n\x1a\n",),
    "image/jpeg": (b"\xff\xd8\xff",),
    "image/gif": (b"GIF87a", b"GIF89a"),
}
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # those with a size


def image_type(data: bytes) -> str:
    """Return the format that the first bytes say; an empty text for none of the four."""
    for name, starts in _STARTS.items():
        if data.startswith(starts):
            return name
    return "image/webp" if data[:4] == b"RIFF" and data[8:12] == b"WEBP" else ""


def is_showable(data: bytes) -> bool:
    """Return whether it is an image whose size is known and bearable."""
    kind = image_type(data)
    if not kind:
        return False
    try:
        width, height = _SIZES[kind](data)
    except (struct.error, IndexError):  # cut, or broken
        return False
    return 0 < width * height <= PIXELS_MOST


def _png(data: bytes) -> tuple[int, int]:
    width, height = struct.unpack_from(">II", data, 16)
    return width, height


def _gif(data: bytes) -> tuple[int, int]:
    width, height = struct.unpack_from("<HH", data, 6)
    return width, height


def _webp(data: bytes) -> tuple[int, int]:
    kind = data[12:16]
    if kind == b"VP8X":
        low, high = data[24:27], data[27:30]
        return 1 + int.from_bytes(low, "little"), 1 + int.from_bytes(high, "little")
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    width, height = struct.unpack_from("<HH", data, 26)
    return width & 0x3FFF, height & 0x3FFF


def _jpeg(data: bytes) -> tuple[int, int]:
    at = 2
    while data[at] == 0xFF:
        marker = data[at + 1]
        if marker in _JPEG_FRAMES:
            height, width = struct.unpack_from(">HH", data, at + 5)
            return width, height
        if marker == 0xFF:  # padding
            at += 1
            continue
        (length,) = struct.unpack_from(">H", data, at + 2)
        at += 2 + length
    return 0, 0


_SIZES = {"image/png": _png, "image/gif": _gif, "image/webp": _webp, "image/jpeg": _jpeg}
