# SPDX-License-Identifier: Apache-2.0
"""The server of test_handover.py."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

import cubbyhole as ls
from cubbyhole.core.errors import HTTPError

if TYPE_CHECKING:
    from collections.abc import Iterator


class Plain(ls.LitAPI):
    """Twice the array."""

    def decode_request(self, request: np.ndarray) -> np.ndarray:
        """Take it as it came."""
        assert not request.flags.writeable
        return request

    def predict(self, x: Any) -> Any:
        """Double."""
        return x * 2


class Reserved(Plain):
    """Twice the array, in the client's memory."""

    def predict(self, x: Any, *, reserve: Any) -> Any:  # type: ignore[override]
        """Double."""
        return np.multiply(x, 2, out=reserve(x.shape, x.dtype))


class Named(ls.LitAPI):
    """One more than each array."""

    def decode_request(self, request: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Take them as they came."""
        return request

    def predict(self, x: dict[str, np.ndarray]) -> dict[str, Any]:
        """Add one."""
        return {name: array + 1 for name, array in x.items()}


class Raw(ls.LitAPI):
    """The sum of all bytes."""

    def decode_request(self, request: memoryview) -> memoryview:
        """Take them as they came."""
        return request

    def predict(self, x: memoryview) -> int:
        """Add."""
        return sum(x)


class Json(ls.LitAPI):
    """Gives back a dict."""

    def decode_request(self, request: dict[str, Any]) -> dict[str, Any]:
        """Take it."""
        return request

    def predict(self, x: dict[str, Any]) -> dict[str, Any]:
        """Give it back; an array is refused."""
        if isinstance(x, np.ndarray):
            raise HTTPError(400, "no arrays here")
        return x


class Grow(Plain):
    """Far more than it got."""

    def predict(self, x: Any) -> Any:
        """Repeat."""
        return np.repeat(x[:, None], 1 << 20, axis=1)


class Slow(Plain):
    """Waits until nobody waits for it; says in the memory for the answer that it has begun (1) and that it saw that (2)."""

    def predict(self, x: Any, *, cancelled: Any, reserve: Any) -> Any:  # type: ignore[override]
        """Wait."""
        told = reserve(1, "float32")
        told[0] = 1
        until_s = time.monotonic() + 20
        while not cancelled() and time.monotonic() < until_s:
            time.sleep(0.005)
        told[0] = 2 if cancelled() else 3
        return told


class Stream(ls.LitAPI):
    """A stream."""

    def predict(self, x: Any) -> Iterator[Any]:
        """Yield."""
        yield x

    def encode_response(self, output: Iterator[Any]) -> Iterator[Any]:
        """Pass on."""
        yield from output


def make_server() -> ls.LitServer:
    """Build it."""
    slow = Slow(api_path="/slow")
    return ls.LitServer(
        [
            Plain(api_path="/plain"),
            Reserved(api_path="/reserved"),
            Named(api_path="/named"),
            Raw(api_path="/raw"),
            Json(api_path="/json"),
            Grow(api_path="/grow"),
            slow,
            Stream(api_path="/stream", stream=True),
        ],
        handover=True,
    )
