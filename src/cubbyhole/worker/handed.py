# SPDX-License-Identifier: Apache-2.0
"""Memory that a client on this machine handed over, as arrays of this worker, and room for the answer in it.

Flow:  meta.handed -> **Memories.read** -> decode_request ... -> **Memories.render** -> tensors in the client's memory
Owns:  a few mappings, kept while requests use them and for a while after: mapping anew would fault every page again.
See:   core/handed.py, docs/guide/handover.md

The descriptors are the front's, opened here through /proc, which the same user may. They are checked again: their inode tells that the
front still has them, their seals that nobody can shrink them under us.
"""

from __future__ import annotations

import math
import mmap
import os
import time
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from cubbyhole.core.entries import Result, ResultMeta
from cubbyhole.core.errors import ClientError, MalformedBody
from cubbyhole.core.handed import (
    ALIGN_BYTES,
    CONTENT_TYPE,
    DTYPE_BYTES,
    HandedMemory,
    Tensor,
    check_memory,
    check_tensor,
)
from cubbyhole.formats.reading import as_asked
from cubbyhole.formats.safetensors import DTYPES
from cubbyhole.formats.tensors import array_of
from cubbyhole.formats.writing import write_body
from cubbyhole.worker.answers import decode_meta
from cubbyhole.worker.rooms import Room, Rooms

if TYPE_CHECKING:
    from collections.abc import Callable

    from cubbyhole.worker.task import Task

KEPT = 8  # mappings: four clients with one memory for arrays and one for answers
KEPT_S = 10.0  # without use; then their memory is the client's alone again
_TENSORS = frozenset(("tensor", "tensors"))
_NAMES = {np.dtype(code): name for name, code in DTYPES.items() if name in DTYPE_BYTES}
_encode = msgspec.msgpack.Encoder().encode
_HANDED_META = _encode(ResultMeta(CONTENT_TYPE))


class Memories:
    """The mappings of a worker.

    Args:
        asked: What the API's decode_request wants: see `formats.reading`; "raw": a memoryview.
    """

    def __init__(self, asked: str) -> None:
        self._asked = asked
        self._kept: dict[tuple[int, bool], tuple[mmap.mmap, float]] = {}

    def read(self, task: Task, plain: Callable[[Any, bytes], Any]) -> Any:
        """Read a request: its handed arrays, or by `plain`.

        Raises:
            MalformedBody: what was handed over is not as it was said, or not what the API reads.
        """
        meta = task.entry.meta
        handed = decode_meta(meta).handed if meta else None
        if handed is None:
            return plain(task.entry.body, meta)
        if handed.out_fd >= 0:
            out = self._map(handed.pid, handed.out_fd, handed.out_inode, writable=True)
            task.room = HandedRoom(out)
        else:
            task.room = HandedRoom(None)
        if handed.fd < 0:
            return plain(task.entry.body, meta)
        return self._arrays(handed)

    def _arrays(self, handed: HandedMemory) -> Any:
        if self._asked in _TENSORS:
            # torch cannot be kept from writing: what is written goes to pages of this request's own. So this mapping is not kept.
            memory = _map_descriptor(handed.pid, handed.fd, handed.inode, mmap.ACCESS_COPY)
        else:
            memory = self._map(handed.pid, handed.fd, handed.inode, writable=False)
        found: dict[str, Any] = {}
        for tensor in handed.tensors:
            check_tensor(tensor, len(memory))
            flat = np.frombuffer(
                memory, DTYPES[tensor.dtype], math.prod(tensor.shape), offset=tensor.at
            )
            flat.flags.writeable = False
            found[tensor.name] = flat.reshape(tensor.shape)
        value = found.get("") if len(found) == 1 and "" in found else found
        if self._asked == "raw":
            if not isinstance(value, np.ndarray):
                raise MalformedBody("This API reads one run of bytes, not arrays by name.")
            data: Any = value.reshape(-1).view(np.uint8)
            return memoryview(data)
        return as_asked(self._asked, value)  # type: ignore[arg-type]

    def _map(self, pid: int, fd: int, inode: int, *, writable: bool) -> mmap.mmap:
        now_s = time.monotonic()
        known = self._kept.pop((inode, writable), None)
        if known is None:
            self.expire(now_s)
            access = mmap.ACCESS_WRITE if writable else mmap.ACCESS_READ
            known = (_map_descriptor(pid, fd, inode, access), now_s)
            while len(self._kept) >= KEPT:
                del self._kept[next(iter(self._kept))]  # unmapped when its last array is gone
        self._kept[inode, writable] = (known[0], now_s)
        return known[0]

    def expire(self, now_s: float) -> None:
        """Let go of what was not used for a while. Cheap where there is nothing."""
        if self._kept:
            for key, (_, used_s) in tuple(self._kept.items()):
                if used_s < now_s - KEPT_S:
                    del self._kept[key]

    @staticmethod
    def render_for(room: Room, value: Any) -> Result | None:
        """Make the answer of arrays: in the client's memory, or as a body of ours. None: the client or the value is another."""
        if type(room) is not HandedRoom:
            return None
        value = array_of(value)
        arrays = {"": value} if isinstance(value, np.ndarray) else value
        if not isinstance(arrays, dict) or not arrays:
            return None
        arrays = {name: array_of(part) for name, part in arrays.items()}
        if not all(isinstance(part, np.ndarray) for part in arrays.values()):
            return None
        tensors = room.place(arrays)
        if tensors is not None:
            return Result(_encode(tensors), 200, _HANDED_META)
        name = "npy" if "" in arrays and len(arrays) == 1 else "safetensors"
        return Result(write_body(name, arrays[""] if name == "npy" else arrays))


def _map_descriptor(pid: int, fd: int, inode: int, access: int) -> mmap.mmap:
    flags = (os.O_RDWR if access == mmap.ACCESS_WRITE else os.O_RDONLY) | os.O_CLOEXEC
    try:
        own = os.open(f"/proc/{pid}/fd/{fd}", flags)
    except OSError as error:
        raise ClientError(
            f"Handed memory cannot be opened in the worker: {error.strerror}. Does /proc show processes of the same user?"
        ) from error
    try:
        found, size_bytes = check_memory(own)
        if found != inode:
            raise MalformedBody("Handed memory was taken back before it was read.")
        if size_bytes == 0:
            raise MalformedBody("Handed memory is empty.")
        return mmap.mmap(own, size_bytes, access=access)
    except (OSError, ValueError) as error:
        raise MalformedBody(f"Handed memory cannot be mapped: {error}.") from error
    finally:
        os.close(own)


class HandedRoom(Room):
    """Room for an answer in the memory that a client gave for it; None: it gave none."""

    __slots__ = ("_address", "_memory", "_used")

    def __init__(self, memory: mmap.mmap | None) -> None:
        super().__init__(Rooms(None))
        self._memory = memory
        self._used = 0
        self._address = 0
        if memory is not None:
            self._address = np.frombuffer(memory, np.uint8).ctypes.data

    def reserve(self, shape: Any, dtype: Any = "float32") -> Any:
        """Return an array in the client's memory; in ordinary memory where that is full."""
        kind = np.dtype(dtype)
        sizes = tuple(shape) if hasattr(shape, "__iter__") else (shape,)
        at = self._take(math.prod(sizes) * kind.itemsize) if kind in _NAMES else None
        if at is None or self._memory is None:
            return np.empty(sizes, kind)
        return np.frombuffer(self._memory, kind, math.prod(sizes), offset=at).reshape(sizes)

    def place(self, arrays: dict[str, Any]) -> list[Tensor] | None:
        """Say where arrays lie in the client's memory; those that do not are copied there. None: no room, or another type."""
        found = []
        for name, array in arrays.items():
            dtype = _NAMES.get(array.dtype)
            if dtype is None or self._memory is None:
                return None
            at: int | None = array.ctypes.data - self._address
            inside = at >= 0 and at + array.nbytes <= len(self._memory)  # type: ignore[operator]
            if not (inside and array.flags.c_contiguous and at % ALIGN_BYTES == 0):  # type: ignore[operator]
                at = self._take(array.nbytes)
                if at is None:
                    return None
                into = np.frombuffer(self._memory, array.dtype, array.size, offset=at)
                into.reshape(array.shape)[...] = array
            found.append(Tensor(name, dtype, array.shape, at or 0))
        return found

    def _take(self, size_bytes: int) -> int | None:
        at = self._used
        if self._memory is None or at + size_bytes > len(self._memory):
            return None
        self._used = -(-(at + size_bytes) // ALIGN_BYTES) * ALIGN_BYTES
        return at
