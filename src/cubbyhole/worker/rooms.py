# SPDX-License-Identifier: Apache-2.0
"""Room for an answer: memory of the channel in which user code writes its output, and where an answer in parts is put together.

    def predict(self, x, reserve):
        y = reserve(x.shape, x.dtype)      # a numpy array in the segment, with room before it for the head of the answer
        np.multiply(x, 2, out=y)
        return y                           # leaves as it lies: not copied

An output that is not what was reserved, or one of several, is copied once. Where the channel has no memory to write in, or no room, and
in batches, `reserve` gives an ordinary array, which works the same but for the copy.

Flow:  runner.py, hooks.py -> **Room.reserve** -> predict -> encode -> **Rooms.settle** -> WorkerPort.publish
Owns:  a Reservation for each array that was asked for, until its answer is published or the task is over.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import msgspec

from cubbyhole.core.errors import ChannelFull, EntryTooLarge
from cubbyhole.formats.parts import Parts

if TYPE_CHECKING:
    from collections.abc import Callable

    from cubbyhole.core.entries import Result

HEAD_BYTES = 1024  # before the array: enough for every head of a few outputs, and a multiple of any alignment that numpy likes
LEAST_BYTES = 64 * 1024  # below, a copy costs less than the room

_encode_meta = msgspec.msgpack.Encoder().encode


class Room:
    """The arrays that one request's code asked for.

    Args:
        rooms: Of the worker.
    """

    __slots__ = ("_reserved", "_rooms")

    def __init__(self, rooms: Rooms) -> None:
        self._rooms = rooms
        self._reserved: list[tuple[int, int, Any]] = []  # address, bytes, reservation

    def reserve(self, shape: Any, dtype: Any = "float32") -> Any:
        """Return an array that is not filled with anything.

        Args:
            shape: Numbers, or one.
            dtype: numpy's; no objects.
        """
        import numpy as np

        kind = np.dtype(dtype)
        sizes = tuple(shape) if hasattr(shape, "__iter__") else (shape,)
        size_bytes = math.prod(sizes) * kind.itemsize
        reservation = None
        if size_bytes >= LEAST_BYTES and not kind.hasobject:
            reservation = self._rooms.take(self._rooms.head_bytes + size_bytes)
        if reservation is None:
            return np.empty(sizes, kind)
        array = np.frombuffer(reservation, kind, offset=self._rooms.head_bytes).reshape(sizes)
        self._reserved.append((array.ctypes.data, size_bytes, reservation))
        return array

    def holding(self, part: Any) -> Any:
        """Return the reservation whose array is exactly this buffer, or None."""
        if not self._reserved:
            return None
        import numpy as np

        address, size_bytes = np.frombuffer(part, np.uint8).ctypes.data, len(part)
        for number, (at, size, reservation) in enumerate(self._reserved):
            if at == address and size == size_bytes:
                del self._reserved[number]  # it can be handed over once
                return reservation
        return None


class Rooms:
    """Where a worker takes memory for answers from.

    Args:
        reserve: `WorkerPort.reserve`; None: nowhere.
        with_head: Answers have a head before the array; False: they are raw bytes.
    """

    def __init__(self, reserve: Callable[[int], Any] | None, *, with_head: bool = True) -> None:
        self._reserve = reserve
        self.head_bytes = HEAD_BYTES if with_head else 0

    def take(self, size_bytes: int) -> Any:
        """Return a reservation; None where there is none to be had."""
        if self._reserve is None:
            return None
        try:
            return self._reserve(size_bytes)
        except (
            ChannelFull,
            EntryTooLarge,
        ):  # the answer's own way to the channel waits, or says what is wrong
            return None

    def settle(self, result: Result, room: Room | None) -> Result:
        """Make one buffer of an answer in parts, and hand over what was reserved for it."""
        parts = result.body
        if type(parts) is not Parts:
            if room is not None and type(parts) is memoryview and not self.head_bytes:
                result.body = room.holding(parts) or parts
            return result
        body = None
        if room is not None and len(parts.rest) == 1:
            body = self._in_place(parts, room)
        if body is None and parts.size_bytes >= LEAST_BYTES:
            body = self.take(parts.size_bytes)
            if body is not None:
                with memoryview(body).cast("B") as view:
                    parts.fill(view)
        result.body = parts.whole() if body is None else body
        result.meta = _encode_meta(parts.final_meta())
        return result

    def _in_place(self, parts: Parts, room: Room) -> Any:
        if len(parts.rest[0]) < LEAST_BYTES or not parts.lengthen_head(self.head_bytes):
            return None
        reservation = room.holding(parts.rest[0])
        if reservation is not None:
            with memoryview(reservation).cast("B") as view:
                view[: self.head_bytes] = parts.head
        return reservation
