# SPDX-License-Identifier: Apache-2.0
"""A body of type `application/x-npy` -> a read-only array that is a view of it, for `decode_request(self, request: np.ndarray)`.

The header is hostile: pickled objects are refused, and the size that it claims must be exactly what is there.

Flow:  reading.py -> **read_npy** -> decode_request
Owns:  nothing.
"""

from __future__ import annotations

import io
import math
import tokenize
from typing import TYPE_CHECKING, Any

import numpy as np

from cubbyhole.core.errors import HTTPError, MalformedBody

if TYPE_CHECKING:
    from cubbyhole.core.entries import Buffer

CONTENT_TYPE = "application/x-npy"
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


def read_npy(body: Buffer, content_type: str) -> Any:
    """Read an array.

    Raises:
        HTTPError: 415 for another content type.
        MalformedBody: it is no npy file, holds Python objects, or is longer or shorter than its header says.
    """
    if content_type.partition(";")[0].strip().lower() != CONTENT_TYPE:
        raise HTTPError(415, f"Send an array as {CONTENT_TYPE}, as numpy.save writes it.")
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
