# SPDX-License-Identifier: Apache-2.0
"""Python values <-> (kind, typed head, bytes).

Flow:  mapping.py -> **values.py** -> _native/_index.pyx
Owns:  two small caches of array heads.
See:   docs/guide/shared-dict.md for the table of types

Nothing is guessed: a type that would come back as another one is refused, unless pickle is allowed.
"""

from __future__ import annotations

import ast
import pickle
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast

import msgspec
import numpy as np

from cubbyhole.core.errors import UnknownType, WrongLayout

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Buffer

BYTES, STR, PLAIN, ARRAY, SCALAR, BUFFER, PICKLE = range(1, 8)
KIND_NAMES = ("", "bytes", "str", "plain", "array", "scalar", "buffer", "pickle")
# These come out of the segment as a copy, being Python objects of their own; arrays and buffers come as views.
COPIED = 1 << BYTES | 1 << STR | 1 << PLAIN | 1 << SCALAR | 1 << PICKLE

TUPLE_CODE, INT_CODE = (
    1,
    2,
)  # MessagePack extensions, for what it would turn into something else or refuse
NATIVE_FORMATS = frozenset("bBhHiIlLqQnNfd?c")  # what memoryview.cast() knows
SIMPLE_KINDS = frozenset("biufc")  # dtypes that the buffer protocol carries as they are
DLPACK_CPU = 1  # kDLCPU
CACHED_HEADS = 4096  # different (dtype, shape) pairs; a model has a handful

Encoded = tuple[int, bytes, "Buffer"]


class Shape(NamedTuple):
    """What an array's head says."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    order: Literal["C", "F"]


class Codec:
    """Turns values into what the segment stores, and back."""

    def __init__(self, *, allow_pickle: bool) -> None:
        self.allow_pickle = allow_pickle
        self._heads: dict[tuple[np.dtype[Any], tuple[int, ...]], bytes] = {}
        self._shapes: dict[bytes, Shape] = {}
        self._pack = msgspec.msgpack.Encoder().encode
        self._unpack = msgspec.msgpack.Decoder(ext_hook=self._extension).decode
        self._encoders: dict[type, Callable[[Any], Encoded]] = {
            bytes: lambda value: (BYTES, b"", value),
            str: lambda value: (STR, b"", value.encode("utf-8", "surrogatepass")),
            np.ndarray: self._from_array,
            bytearray: lambda value: (BUFFER, b"", value),
            float: self._from_atom,
            bool: self._from_atom,
            type(None): self._from_atom,
            int: self._from_plain,
            list: self._from_plain,
            dict: self._from_plain,
            tuple: self._from_plain,
        }
        self.decoders: tuple[Callable[[bytes, Any], Any], ...] = (
            self._to_nothing,
            lambda _head, value: value,
            lambda _head, value: value.decode("utf-8", "surrogatepass"),
            self._to_plain,
            self._to_array,
            lambda head, value: self._to_array(head, value)[()],
            self._to_buffer,
            self._to_pickled,
        )

    def encode(self, value: Any) -> Encoded:
        """Return kind, head and bytes of a value.

        Raises:
            UnknownType: the value cannot be stored, or not without pickle.
        """
        encoder = self._encoders.get(type(value))
        return encoder(value) if encoder is not None else self._from_other(value)

    def decode(self, kind: int, head: bytes, value: Any) -> Any:
        """Return the value that `encode` was given; arrays and buffers as read-only views.

        Raises:
            UnknownType: it is a pickle, and this dictionary was opened without `allow_pickle=True`.
            WrongLayout: what lies in the segment is no such value.
        """
        if not BYTES <= kind <= PICKLE:
            self._to_nothing(head, value)
        return self.decoders[kind](head, value)

    # ------------------------------------------------------------------ plain data
    def _from_atom(self, value: float | None) -> Encoded:
        return PLAIN, b"", self._pack(value)

    def _from_plain(self, value: Any) -> Encoded:
        try:
            return PLAIN, b"", self._pack(self._plain(value))
        except UnknownType:
            if self.allow_pickle:
                return self._from_pickled(value)
            raise
        except RecursionError as error:
            raise UnknownType(
                f"A {type(value).__name__} is nested too deeply, or contains itself. Flatten it, or open the dictionary with "
                "allow_pickle=True."
            ) from error

    def _plain(self, value: Any) -> Any:
        kind = type(value)
        if kind is str or kind is float or kind is bool or value is None or kind is bytes:
            return value
        if kind is int:
            if -(2**63) <= value < 2**64:
                return value
            size = (value.bit_length() + 8) // 8
            return msgspec.msgpack.Ext(INT_CODE, value.to_bytes(size, "little", signed=True))
        if kind is list:
            return [self._plain(item) for item in value]
        if kind is tuple:
            return msgspec.msgpack.Ext(
                TUPLE_CODE, self._pack([self._plain(item) for item in value])
            )
        if kind is dict:
            return {self._plain_key(key): self._plain(item) for key, item in value.items()}
        raise UnknownType(
            f"A {kind.__module__}.{kind.__qualname__} inside a list, tuple or dict cannot be stored: these hold None, bool, int, "
            "float, str, bytes and each other. Give an array a key of its own, or open the dictionary with allow_pickle=True."
        )

    def _plain_key(self, key: Any) -> Any:
        plain = self._plain(key)
        if isinstance(plain, msgspec.msgpack.Ext):
            raise UnknownType(
                f"A dict with a {type(key).__name__} as key cannot be stored (64-bit integers are the largest). Use str keys, or "
                "open the dictionary with allow_pickle=True."
            )
        return plain

    def _to_plain(self, _head: bytes, value: bytes) -> Any:
        try:
            return self._unpack(value)
        except msgspec.DecodeError as error:
            raise WrongLayout(
                f"{len(value)} bytes in the segment are no MessagePack: {error}. It was written over."
            ) from error

    def _extension(self, code: int, data: memoryview) -> Any:
        if code == TUPLE_CODE:
            return tuple(self._unpack(data))
        if code == INT_CODE:
            return int.from_bytes(data, "little", signed=True)
        raise msgspec.DecodeError(f"extension {code} is unknown")

    # ------------------------------------------------------------------ arrays
    def array_head(self, dtype: np.dtype[Any], shape: tuple[int, ...], order: str = "C") -> bytes:
        """Return the head of such an array.

        Raises:
            UnknownType: elements of this dtype are Python objects.
        """
        head = self._heads.get((dtype, shape)) if order == "C" else None
        if head is not None:
            return head
        lost = dtype.kind == "V" and dtype.names is None and dtype.type is not np.void
        if dtype.hasobject or lost:
            raise UnknownType(
                f"An array of dtype {dtype} cannot be stored: its elements are not plain bytes that numpy can name. Convert it, or "
                "open the dictionary with allow_pickle=True."
            )
        text = dtype.str if dtype.names is None else repr(np.lib.format.dtype_to_descr(dtype))
        head = self._pack([text, list(shape), order])
        if order == "C" and len(self._heads) < CACHED_HEADS:
            self._heads[dtype, shape] = head
        return head

    def _from_array(self, array: np.ndarray[Any, Any]) -> Encoded:
        dtype = array.dtype
        if dtype.kind in SIMPLE_KINDS and array.flags.c_contiguous:
            return ARRAY, self.array_head(dtype, array.shape), cast("Buffer", array)
        if dtype.hasobject and self.allow_pickle:
            return self._from_pickled(array)
        fortran = array.flags.f_contiguous and not array.flags.c_contiguous
        head = self.array_head(dtype, array.shape, "F" if fortran else "C")
        flat = np.ascontiguousarray(array.T if fortran else array).reshape(-1)
        return ARRAY, head, cast("Buffer", flat.view(np.uint8)) if flat.nbytes else b""

    def _to_array(self, head: bytes, value: Any) -> Any:
        try:
            shape = self._shapes.get(head) or self._read_head(head)
            return np.ndarray(shape.shape, shape.dtype, value, 0, None, shape.order)
        except (ValueError, TypeError, SyntaxError) as error:
            raise WrongLayout(
                f"{len(value)} bytes in the segment are not the array that their head describes: {error}. It was written over."
            ) from error

    def _read_head(self, head: bytes) -> Shape:
        text, shape, order = self._unpack(head)
        descr = ast.literal_eval(text) if text.startswith("[") else text
        found = Shape(np.lib.format.descr_to_dtype(descr), tuple(shape), order)
        if len(self._shapes) < CACHED_HEADS:
            self._shapes[head] = found
        return found

    # ------------------------------------------------------------------ everything else
    def _from_other(self, value: Any) -> Encoded:
        if isinstance(value, np.memmap):
            return self._from_array(value.view(np.ndarray))
        if isinstance(value, np.generic) and not value.dtype.hasobject:
            array = np.asarray(value)
            return SCALAR, self.array_head(array.dtype, ()), array.tobytes()
        if not isinstance(value, (np.ndarray, int, float, str, bytes)):
            # Of subclasses only the base would come back.
            found = self._from_memory(value)
            if found is not None:
                return found
        if self.allow_pickle:
            return self._from_pickled(value)
        kind = type(value)
        raise UnknownType(
            f"A value of type {kind.__module__}.{kind.__qualname__} cannot be stored. Known are bytes, str, numbers, None, lists, "
            "tuples and dicts of these, numpy arrays, and CPU objects with the buffer protocol, __array_interface__ or DLPack. Convert "
            "it, or open the dictionary with allow_pickle=True if all of its processes trust each other."
        )

    def _from_memory(self, value: Any) -> Encoded | None:
        try:
            view = memoryview(value)
        except (TypeError, BufferError):
            pass
        else:
            return self._from_view(view)
        if hasattr(value, "__array_interface__"):
            return self._from_array(np.asarray(value).view(np.ndarray))
        if hasattr(value, "__dlpack__"):
            try:
                if value.__dlpack_device__()[0] != DLPACK_CPU:
                    raise BufferError("it lies on a device")  # noqa: TRY301  one text for all refusals
                return self._from_array(np.from_dlpack(value))
            except (BufferError, RuntimeError, TypeError, ValueError) as error:
                raise UnknownType(
                    f"A {type(value).__qualname__} does not give its memory to numpy: {error}. Move it to the CPU, detach it, and use "
                    "a dtype that numpy knows."
                ) from error
        return None

    def _from_view(self, view: memoryview) -> Encoded:
        shape = view.shape or ()
        if view.format not in NATIVE_FORMATS or 0 in shape or not shape:
            return self._from_array(np.asarray(view))
        plain = view.format == "B" and view.ndim == 1
        head = b"" if plain else self._pack([view.format, list(shape)])
        return BUFFER, head, view if view.c_contiguous else view.tobytes()

    def _to_buffer(self, head: bytes, value: Any) -> memoryview:
        view = memoryview(value)
        if not head:
            return view
        try:
            code, shape = self._unpack(head)
            return view.cast(code, shape)
        except (ValueError, TypeError) as error:
            raise WrongLayout(
                f"{len(value)} bytes in the segment are not the buffer that their head describes: {error}. It was written over."
            ) from error

    def _from_pickled(self, value: Any) -> Encoded:
        return PICKLE, b"", pickle.dumps(value, protocol=5)

    def _to_pickled(self, _head: bytes, value: bytes) -> Any:
        if not self.allow_pickle:
            raise UnknownType(
                f"The value is a pickle of {len(value)} bytes, and unpickling runs code of whoever wrote it. Open the dictionary with "
                "allow_pickle=True if you trust all processes that write into it."
            )
        return pickle.loads(value)  # noqa: S301  the caller said that he trusts the writers

    def _to_nothing(self, _head: bytes, value: Any) -> Any:
        raise WrongLayout(
            f"{len(value)} bytes in the segment are of no known kind. It was written over, or by a newer version."
        )
