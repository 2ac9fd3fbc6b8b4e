# SPDX-License-Identifier: Apache-2.0
"""One array, as `numpy.save` writes it: read as a read-only view of its bytes, written as a head and a view of the array.

The head is hostile: pickled objects are refused, and the size that it claims must be exactly what is there.

Owns:  nothing.
"""

from __future__ import annotations

import io
import math
import tokenize
from typing import TYPE_CHECKING, Any

import numpy as np

from cubbyhole.core.errors import MalformedBody

if TYPE_CHECKING:
    from cubbyhole.core.entries import Buffer

_HEAD_BYTES = 10_016  # numpy reads no longer header than 10,000 characters without being told

# What numpy's parser lets through, which reads a header as a Python literal, and one that is none as Python 2's.
_UNREADABLE = (
    ValueError,
    TypeError,
    SyntaxError,
    RecursionError,
    MemoryError,
    tokenize.TokenError,
)


def read_npy(body: Buffer) -> Any:
    """Read an array.

    Returns:
        A read-only ndarray on the body's bytes.

    Raises:
        MalformedBody: it is no npy file, holds Python objects, or is longer or shorter than its head says.
    """
    view = memoryview(body).cast("B").toreadonly()
    head = io.BytesIO(bytes(view[:_HEAD_BYTES]))
    try:
        version = np.lib.format.read_magic(head)
        if version not in {(1, 0), (2, 0)}:
            raise MalformedBody(f"Request body is npy of version {version}, which is not read.")
        read = (
            np.lib.format.read_array_header_1_0
            if version == (1, 0)
            else np.lib.format.read_array_header_2_0
        )
        shape, by_column, dtype = read(head)
    except _UNREADABLE as error:
        raise MalformedBody(f"Request body is not npy: {str(error)[:200]}") from error
    if dtype.hasobject:
        raise MalformedBody("Request body is npy of Python objects, which is never unpickled.")
    wanted = math.prod(shape) * dtype.itemsize
    raw = view[head.tell() :]
    if min(shape, default=0) < 0 or dtype.itemsize == 0 or wanted != len(raw):
        raise MalformedBody(
            f"Request body is npy whose header asks for {wanted:.4g} bytes, but {len(raw)} follow."
        )
    try:
        return np.frombuffer(raw, dtype).reshape(shape, order="F" if by_column else "C")
    except (ValueError, OverflowError) as error:
        raise MalformedBody("Request body is npy of a shape that cannot be.") from error


def write_npy(array: Any) -> list[Buffer]:
    """Return the parts of a file with one array: its head, and its bytes, which are not copied where they lie in one run.

    Raises:
        TypeError: it holds Python objects.
    """
    array = np.asarray(array)
    if array.dtype.hasobject:
        raise TypeError("An array of Python objects cannot be sent; give it a type of its own.")
    by_column = array.flags.f_contiguous and not array.flags.c_contiguous
    head = io.BytesIO()
    described = {
        "descr": np.lib.format.dtype_to_descr(array.dtype),
        "fortran_order": by_column,
        "shape": array.shape,
    }
    np.lib.format.write_array_header_1_0(head, described)
    return [head.getvalue(), raw_bytes(array.T if by_column else array)]


def raw_bytes(array: Any) -> memoryview:
    """Return an array's bytes in C order; copied only if they do not lie so."""
    flat = np.ascontiguousarray(array).reshape(-1)
    data: Any = flat.view(np.uint8)
    return memoryview(data)
