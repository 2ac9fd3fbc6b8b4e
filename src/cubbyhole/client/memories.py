# SPDX-License-Identifier: Apache-2.0
"""Memory of a client that it may hand over: memfds, mapped once and used again when the arrays in them are gone.

Owns:  the memfds and their mappings. A memory is free when no array lies in it; its pages stay warm for the next request.
"""

from __future__ import annotations

import fcntl
import math
import mmap
import os
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np

from cubbyhole.core.handed import ALIGN_BYTES, DTYPE_BYTES, Tensor, check_tensor
from cubbyhole.formats.safetensors import DTYPES

if TYPE_CHECKING:
    from collections.abc import Sequence

FREE_KEPT = 8  # memories that wait for their next use
SMALLEST_BYTES = 1 << 20
NAMES = {np.dtype(code): name for name, code in DTYPES.items() if name in DTYPE_BYTES}


class Memory:
    """One memfd.

    Attributes:
        fd: Of the memfd, sealed against any change of its size.
        size_bytes: Its size.
    """

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self.fd = os.memfd_create("cubbyhole-client", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(self.fd, size_bytes)
            fcntl.fcntl(self.fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
            self._map = mmap.mmap(self.fd, size_bytes)
        except BaseException:
            os.close(self.fd)
            raise
        self.address = np.frombuffer(self._map, np.uint8).ctypes.data

    def close(self) -> None:
        """Close the descriptor; the mapping goes with the last array in it."""
        os.close(self.fd)


class _Span:
    """What an array in a memory stands on: when it is gone, so is that array with all its views."""

    def __init__(
        self, memory: Memory, dtype: Any, shape: Sequence[int], at: int, *, writable: bool
    ) -> None:
        self.memory = memory
        self.__array_interface__ = {
            "version": 3,
            "typestr": np.dtype(dtype).str,
            "shape": tuple(shape),
            "data": (memory.address + at, not writable),
        }


class Pool:
    """The memories of one client. Each counts who uses it: whoever took it, and the arrays in it."""

    def __init__(self) -> None:
        self._free: list[Memory] = []
        self._used: dict[int, Memory] = {}  # by address
        self._users: dict[int, int] = {}
        self._closed = False

    def take(self, size_bytes: int) -> Memory:
        """Return a memory of at least this size that nobody uses; `give_back` it."""
        wanted = max(SMALLEST_BYTES, size_bytes)
        fits = [memory for memory in self._free if wanted <= memory.size_bytes <= 4 * wanted]
        if fits:
            memory = min(fits, key=lambda one: one.size_bytes)
            self._free.remove(memory)
        else:
            memory = Memory(1 << (wanted - 1).bit_length())
        self._used[memory.address] = memory
        self._users[memory.address] = 1
        return memory

    def give_back(self, memory: Memory) -> None:
        """One user less: with the last one the memory is free."""
        self._users[memory.address] -= 1
        if self._users[memory.address]:
            return
        del self._users[memory.address], self._used[memory.address]
        self._free.append(memory)
        if self._closed or len(self._free) > FREE_KEPT:
            self._free.pop(0).close()

    def array(
        self,
        memory: Memory,
        dtype: Any,
        shape: Sequence[int],
        at: int = 0,
        *,
        writable: bool = True,
    ) -> Any:
        """Return an array in a memory that the caller uses; it is used until the array and all its views are gone."""
        span = _Span(memory, dtype, shape, at, writable=writable)
        self._users[memory.address] += 1
        weakref.finalize(span, self.give_back, memory).atexit = False
        return np.asarray(span)

    def new_array(self, dtype: Any, shape: Sequence[int]) -> Any:
        """Return an array in a memory of its own."""
        memory = self.take(math.prod(shape) * np.dtype(dtype).itemsize)
        array = self.array(memory, dtype, shape)
        self.give_back(memory)
        return array

    def find(self, array: Any) -> tuple[Memory, int] | None:
        """Return the memory in which an array lies in one run, and where; None: in none."""
        if not array.flags.c_contiguous:
            return None
        start = array.ctypes.data
        for memory in self._used.values():
            at = start - memory.address
            if at >= 0 and at + array.nbytes <= memory.size_bytes:
                return (memory, at) if at % ALIGN_BYTES == 0 else None
        return None

    def place(self, arrays: dict[str, Any]) -> tuple[Memory, list[Tensor]]:
        """Find one memory in which all these arrays lie, or copy them into one.

        Returns:
            The memory, which the caller now uses, and where each array lies.

        Raises:
            TypeError: an array is of a type that cannot be handed over.
        """
        for array in arrays.values():
            if array.dtype not in NAMES:
                raise TypeError(
                    f"Arrays of {array.dtype} cannot be handed over; view them as bytes."
                )
        found = [place for place in map(self.find, arrays.values()) if place is not None]
        if len(found) == len(arrays) and len({memory.address for memory, _ in found}) == 1:
            memory = found[0][0]
            self._users[memory.address] += 1
            places = [at for _, at in found]
        else:
            places, size_bytes = _lay_out(arrays)
            memory = self.take(size_bytes)
            for array, at in zip(arrays.values(), places, strict=True):
                self.array(memory, array.dtype, array.shape, at)[...] = array
        tensors = [
            Tensor(name, NAMES[array.dtype], array.shape, at)
            for (name, array), at in zip(arrays.items(), places, strict=True)
        ]
        return memory, tensors

    def answered(self, memory: Memory, tensors: list[Tensor]) -> dict[str, Any]:
        """Return the arrays that a server put into a memory, read-only.

        Raises:
            MalformedBody: one does not lie in it.
        """
        arrays = {}
        for tensor in tensors:
            check_tensor(tensor, memory.size_bytes)
            count = math.prod(tensor.shape)
            shape = tensor.shape if count else (0,)
            array = self.array(memory, DTYPES[tensor.dtype], shape, tensor.at, writable=False)
            arrays[tensor.name] = array.reshape(tensor.shape)
        return arrays

    def close(self) -> None:
        """Close what is free, and what is used as soon as it is free."""
        self._closed = True
        while self._free:
            self._free.pop().close()


def _lay_out(arrays: dict[str, Any]) -> tuple[list[int], int]:
    """Return where each array begins, and how long all of them are."""
    places, at = [], 0
    for array in arrays.values():
        places.append(at)
        at = -(-(at + array.nbytes) // ALIGN_BYTES) * ALIGN_BYTES
    return places, at
