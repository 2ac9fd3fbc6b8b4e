# SPDX-License-Identifier: Apache-2.0
"""What travels in claim 1 of the article: bytes, arrays, nested data, and arrays that were written in place.

Each shape makes, for a size, a coroutine function that sends one body, checks its answer and returns how long that took in ns.

Flow:  article_run.py: sizes -> **SHAPES** -> channel_run.Front
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from bench.article_worker import nested as decode_and_encode
from cubbyhole.measuring.channel_worker import HEAD_BYTES, serve

if TYPE_CHECKING:
    from cubbyhole.measuring.channel_run import Front

Turn = Callable[[], Awaitable[int]]
_CLOCK = time.perf_counter_ns


def _expect(right: bool) -> None:
    if not right:
        raise ValueError("an answer differs from its request")


def _bytes(front: Front, size: int) -> Turn:
    raw = bytes(range(256)) * (size // 256 + 1)
    raw = raw[:size]

    async def once() -> int:
        at = _CLOCK()
        got = memoryview(await front.call(raw))
        _expect(len(got) == size and got[-8:] == raw[-8:])
        return _CLOCK() - at

    return once


def _array(front: Front, size: int) -> Turn:
    import numpy as np

    data = np.arange(size // 4, dtype=np.float32)

    async def once() -> int:
        at = _CLOCK()
        array = np.frombuffer(await front.call(data.data.cast("B")), np.float32)
        _expect(bool(array.size == data.size and array[-1] == data[-1]))
        return _CLOCK() - at

    return once


def _nested(front: Front, size: int) -> Turn:
    import msgspec

    row = {"text": "x" * 20, "numbers": [1.5, 2.5, 3.5, 4.5], "flag": True}
    rows = [row] * max(1, size // len(msgspec.msgpack.encode(row)))

    async def once() -> int:
        at = _CLOCK()
        body = msgspec.msgpack.encode(rows)
        _expect(msgspec.msgpack.decode(await front.call(body)) == rows)
        return _CLOCK() - at

    return once


def _in_place(front: Front, size: int) -> Turn:
    """Written into the channel's memory before the clock starts, as a front does while a body arrives; a short answer."""
    raw = bytes(range(256)) * (size // 256 + 1)
    raw = raw[:size]
    ends = raw[:HEAD_BYTES] + raw[-HEAD_BYTES:]

    async def once() -> int:
        block: Any = front.port.reserve(size)
        memoryview(block).cast("B")[:] = raw
        at = _CLOCK()
        call = front.call(block)
        del block
        _expect(bytes(memoryview(await call)) == ends)
        return _CLOCK() - at

    return once


# name -> (what makes a turn, the worker's function, its further arguments, CPU counts)
SHAPES: dict[str, tuple[Callable[[Front, int], Turn], Any, tuple[str, ...], bool]] = {
    "bytes": (_bytes, serve, ("echo",), True),
    "array": (_array, serve, ("array",), True),
    "nested": (_nested, decode_and_encode, (), True),
    "in-place": (_in_place, serve, ("ack",), False),  # the writing is not what is asked about
}
