# SPDX-License-Identifier: Apache-2.0
"""Images in JSON: base64 in requests, base64 PNG in responses.

def decode_request(self, request: ImageInput): return request.get_image()
def encode_response(self, output) -> ImageOutput: return ImageOutput(image=output)
"""

from __future__ import annotations

import base64
import binascii
import io
from typing import Any

from pydantic import BaseModel, ConfigDict, field_serializer, field_validator


class ImageInput(BaseModel):
    """An image as base64. A subclass may have more `str` fields, for more images."""

    image_data: str | None = None

    @field_validator("*", mode="after")
    @classmethod
    def _is_base64(cls, value: Any) -> Any:
        if isinstance(value, str):
            try:
                base64.b64decode(value, validate=True)
            except binascii.Error as error:
                raise ValueError("Invalid Base64 string.") from error
        return value

    def get_image(self, key: str = "image_data") -> Any:
        """Decode a field into a PIL image.

        Raises:
            ValueError: the field is empty, or holds no image that pillow knows.
        """
        from PIL import Image

        data = getattr(self, key, None)
        if not data:
            raise ValueError(f"Missing image data for key '{key}'")
        try:
            image = Image.open(io.BytesIO(base64.b64decode(data)))
            image.load()
        except (OSError, ValueError, SyntaxError) as error:
            raise ValueError(f"Error loading image from decoded data: {error}") from error
        return image


class ImageOutput(BaseModel):
    """A PIL image, written as base64 PNG."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    image: Any

    @field_serializer("image")
    def _as_png(self, image: Any) -> str:
        from PIL import Image

        if not isinstance(image, Image.Image):
            raise TypeError(f"Expected a PIL Image, but got {type(image)}.")
        buffer = io.BytesIO()
        image.save(buffer, format="PNG")
        return base64.b64encode(buffer.getvalue()).decode()
