# SPDX-License-Identifier: Apache-2.0
"""An image file -> pixels, by Pillow (`pip install pillow`). A small file may claim many pixels: they are counted before any is made."""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING, Any

from cubbyhole.core.errors import HTTPError, MalformedBody, PayloadTooLarge

if TYPE_CHECKING:
    from cubbyhole.core.entries import Buffer

MOST_PIXELS = 64_000_000  # 8000 x 8000: 192 MB as RGB, more than cameras give
FORMATS = (
    "PNG",
    "JPEG",
    "WEBP",
    "GIF",
    "BMP",
    "TIFF",
)  # what browsers and cameras make; the others are seldom read and seldom tested


def read_image(body: Buffer) -> Any:
    """Read an image.

    Returns:
        A `PIL.Image.Image`, decoded; of an animation its first frame.

    Raises:
        MalformedBody: it is no image of these formats, or cut short.
        PayloadTooLarge: it has more than `MOST_PIXELS`.
        HTTPError: 415, Pillow is not installed.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise HTTPError(
            415, "This server decodes no images: Pillow is not installed beside it."
        ) from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(bytes(body)), formats=FORMATS)
            width, height = image.size
            if width * height > MOST_PIXELS:
                raise PayloadTooLarge(
                    f"The image has {width} x {height} pixels; at most {MOST_PIXELS:,} are decoded."
                )
            image.load()
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise PayloadTooLarge(f"The image has too many pixels: {error}") from error
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        raise MalformedBody(
            f"Request body is no image that can be read: {str(error)[:200]}"
        ) from error
    return image


def pixels(image: Any) -> Any:
    """Return an image's pixels as uint8, shape (height, width, 3), RGB; what is transparent becomes black."""
    import numpy as np

    return np.asarray(image.convert("RGB"))
