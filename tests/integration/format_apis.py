# SPDX-License-Identifier: Apache-2.0
"""APIs for test_formats.py, importable by spawned workers."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

import cubbyhole as ls


class OneArray(ls.LitAPI):
    """Twice the array."""

    answer_formats: ClassVar[tuple[str, ...]] = ("npy",)

    def decode_request(self, request: np.ndarray) -> np.ndarray:
        """Take it as it came."""
        return request

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Double."""
        return x * 2


class Arrays(ls.LitAPI):
    """Arrays by name in and out."""

    answer_formats: ClassVar[tuple[str, ...]] = ("safetensors", "msgpack")

    def decode_request(self, request: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Take them as they came."""
        return request

    def predict(self, x: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Sum over all."""
        return {"sum": sum((array.sum(1) for array in x.values()), np.zeros(2, np.float32))}


class Negotiated(ls.LitAPI):
    """JSON in; out as the client likes it."""

    answer_formats: ClassVar[tuple[str, ...]] = ("json", "npy")

    def decode_request(self, request: Any) -> np.ndarray:
        """Make an array of it."""
        return np.asarray(request)

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Double."""
        return x * 2


class AnyBody(ls.LitAPI):
    """Says what it got."""

    body_formats: ClassVar[tuple[str, ...]] = ("json", "msgpack", "npy", "raw")

    def predict(self, x: Any) -> str:
        """Name its type."""
        return type(x).__name__


class InPlace(ls.LitAPI):
    """Twice the array, written where the answer is sent from."""

    answer_formats: ClassVar[tuple[str, ...]] = ("npy",)

    def decode_request(self, request: np.ndarray) -> np.ndarray:
        """Take it as it came."""
        return request

    def predict(self, x: np.ndarray, reserve: Any) -> Any:
        """Double."""
        return np.multiply(x, 2, out=reserve(x.shape, x.dtype))


class InPlaceRaw(ls.LitAPI):
    """The same as raw bytes."""

    def decode_request(self, request: memoryview) -> np.ndarray:
        """Take the numbers."""
        return np.frombuffer(request, np.float32)

    def predict(self, x: np.ndarray, reserve: Any) -> Any:
        """Double."""
        return np.multiply(x, 2, out=reserve(x.shape, x.dtype))

    def encode_response(self, output: Any) -> memoryview:
        """Give the bytes."""
        return memoryview(output)
