# SPDX-License-Identifier: Apache-2.0
"""The model of the demo: reads text from an image (PP-OCR, whose ONNX weights come inside the package `rapidocr`).

An ordinary API as a user would write it. `decode_request` asks for a `memoryview`, so the picture is decoded straight from
the segment: between the front that received it and the pixels there is no copy.

Flow:  worker/runner -> decode_request (view -> pixels) -> predict (pixels -> boxes, words) -> encode_response (dict)
Owns:  the model, in each worker process.
See:   reading_order.py for the order of the lines
"""

from __future__ import annotations

import os
import time
from typing import Any

import numpy as np
import numpy.typing as npt

from cubbyhole.api.lit_api import LitAPI
from cubbyhole.core.errors import HTTPError
from cubbyhole.demo.reading_order import Box, in_reading_order
from cubbyhole.supervise.devices import usable_cores

PIXELS_MOST = 40_000_000  # decoded: 120 MB; a photograph of a phone has 12 to 50 million
SLIMMEST = 6  # slimmer images are padded: the detector enlarges the short side to 736 pixels, and the long one with it
JPEG = b"\xff\xd8\xff"
NOT_AN_IMAGE = 415  # HTTP: Unsupported Media Type


class TextReader(LitAPI):
    """Image in (any format that OpenCV decodes), lines of text with their places out.

    Args:
        workers: How many of them share the cores of this machine.
        **options: As `LitAPI` takes them.
    """

    def __init__(self, workers: int = 1, **options: Any) -> None:
        super().__init__(**options)
        self.workers = workers

    def setup(self, device: str) -> None:  # noqa: ARG002  (ONNX Runtime's CPU provider serves everywhere)
        """Load the three networks (where text is, which way up, what it says) and warm them up."""
        # OpenCV reads both when it is imported; what it would warn of is told to the client, by decode_request.
        os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(PIXELS_MOST))
        os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")
        from rapidocr import RapidOCR

        threads = max(1, usable_cores() // self.workers)
        self.engine: Any = RapidOCR(
            params={
                "Global.log_level": "error",
                "EngineConfig.onnxruntime.intra_op_num_threads": threads,
            }
        )
        # The first run plans memory and takes twice as long: not at the first client's cost.
        self.engine(np.full((96, 320, 3), 255, np.uint8))

    def decode_request(self, request: memoryview) -> npt.NDArray[np.uint8]:
        """Decode the picture where it lies.

        Args:
            request: The body of the request, a view of the segment: PNG, JPEG, WebP, BMP, TIFF, GIF, ...

        Returns:
            uint8, shape (height, width, 3), blue green red; turned as its EXIF data says. Shape (height, width, 4) if some of
            it is transparent: what it should lie on, light or dark, is decided by `predict`.

        Raises:
            HTTPError: 415, the bytes are no image, or one of more than 40 million pixels.
        """
        import cv2

        if not len(request):
            raise HTTPError(
                NOT_AN_IMAGE,
                "The body is empty. Send the bytes of an image, as they are in its file.",
            )
        try:
            encoded = np.frombuffer(request, np.uint8)
            pixels: Any = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
            if pixels is not None and request[:3] != JPEG:
                layers: Any = cv2.imdecode(encoded, cv2.IMREAD_UNCHANGED)
                if layers.dtype == np.uint8 and layers.shape[2:] == (4,):
                    pixels = layers
        except cv2.error as problem:
            raise HTTPError(
                NOT_AN_IMAGE,
                f"The image has more than {PIXELS_MOST:,} pixels or is damaged. Send a smaller one.",
            ) from problem
        if pixels is None:
            raise HTTPError(
                NOT_AN_IMAGE,
                f"These {len(request):,} bytes are no image that can be decoded. "
                "Send a PNG, JPEG or WebP file as the body.",
            )
        decoded: npt.NDArray[np.uint8] = pixels
        return decoded

    def predict(self, image: npt.NDArray[np.uint8]) -> dict[str, Any]:
        """Find and read the text.

        Args:
            image: uint8, shape (height, width, 3 or 4), blue green red, and opacity.

        Returns:
            `size` (width, height) in pixels; `seconds`, the time this took; `rows`: lists of words, each with
            `text`, `score` (0 to 1) and `corners` (four points (x, y), clockwise from top left).
        """
        began = time.perf_counter()
        height, width = image.shape[:2]
        found = self.engine(_padded(image))
        answer: dict[str, Any] = {"size": (width, height), "rows": []}
        if found.boxes is not None:
            corners = found.boxes.tolist()
            boxes = [
                Box(min(x), min(y), max(x), max(y))
                for x, y in (zip(*four, strict=True) for four in corners)
            ]
            answer["rows"] = [
                [
                    {
                        "text": found.txts[at],
                        "score": round(float(found.scores[at]), 4),
                        "corners": corners[at],
                    }
                    for at in row
                ]
                for row in in_reading_order(boxes)
            ]
        answer["seconds"] = round(time.perf_counter() - began, 4)
        return answer

    def encode_response(self, output: dict[str, Any]) -> dict[str, Any]:
        """Add the text as a whole: one line for each row."""
        lines = ["  ".join(word["text"] for word in row) for row in output["rows"]]
        return {"text": "\n".join(lines), **output}


def _padded(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Add to the right or below what a very slim image lacks; places in it stay what they are."""
    height, width = image.shape[:2]
    least = -(-max(height, width) // SLIMMEST)
    below, right = max(0, least - height), max(0, least - width)
    if not below and not right:
        return image
    return np.pad(image, ((0, below), (0, right), (0, 0)), mode="edge")
