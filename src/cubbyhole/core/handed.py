# SPDX-License-Identifier: Apache-2.0
"""Words between a client on the same machine and a server to which it hands memory over: descriptors of memfds, never names.

    client -> front     Ask, with one memfd of arrays and one for the answer         (SCM_RIGHTS over a Unix socket)
    front  -> worker    HandedMemory, in the entry's meta                            (/proc/<pid>/fd/<n> of the front)
    worker -> front     HandedTensors, as the answer's body
    front  -> client    Reply, with a memfd where the answer lies in none of the client's

Everything that a client says is checked where it is used: sizes by `check_memory`, arrays by `check_tensor`. What is in the memory may
change at any time, so nothing of it is ever taken for a size or an offset.
"""

from __future__ import annotations

import fcntl
import math
import os

import msgspec

from cubbyhole.core.errors import MalformedBody

CONTENT_TYPE = "application/vnd.cubbyhole.handed"
MESSAGE_BYTES = 64 * 1024  # of one message on the socket, without the memory
INLINE_BYTES = 32 * 1024  # larger answers come in a memfd
ALIGN_BYTES = 64  # where arrays begin
_MOST_DIMENSIONS = 32
_LARGEST_PAGE_BYTES = (
    64 * 1024
)  # huge pages may be missing when they are touched, which ends the process that does

# dtypes by their name in safetensors, and their size in bytes. No BOOL: a bool of another bit pattern is undefined in C.
DTYPE_BYTES = {
    "U8": 1, "I8": 1, "U16": 2, "I16": 2, "U32": 4, "I32": 4, "U64": 8, "I64": 8, "F16": 2, "F32": 4, "F64": 8,
}  # fmt: skip


class Tensor(msgspec.Struct, frozen=True, array_like=True):
    """An array in handed memory. `at`: where it begins, in bytes. `name` is empty for one that is all there is."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    at: int

    @property
    def size_bytes(self) -> int:
        """How long it is; only after `check_tensor`."""
        return math.prod(self.shape) * DTYPE_BYTES[self.dtype]


class HandedMemory(msgspec.Struct, frozen=True, array_like=True):
    """Where a worker finds what a client handed over. Made by a front only; nothing that comes by HTTP can say so.

    Attributes:
        pid: Of the front, which holds the descriptors until the request is over.
        fd, inode, size_bytes: Of the memory with the arrays; fd -1: there is none.
        tensors: In it.
        out_fd, out_inode, out_bytes: Of the memory for the answer; fd -1: there is none.
    """

    pid: int
    fd: int
    inode: int
    size_bytes: int
    tensors: list[Tensor]
    out_fd: int = -1
    out_inode: int = 0
    out_bytes: int = 0


class Ask(msgspec.Struct, frozen=True):
    """A request.

    Attributes:
        path: Of the API.
        tensors: In the first descriptor; empty: none comes for arrays.
        out: The last descriptor is for the answer.
        body, content_type: Instead of arrays, a short body as it would come by HTTP.
        headers: As in HTTP, names in lower case: x-api-key, x-request-id, x-request-timeout, x-priority.
    """

    path: str
    tensors: list[Tensor] = []
    out: bool = False
    body: bytes = b""
    content_type: str = ""
    headers: dict[str, str] = {}


class Reply(msgspec.Struct, frozen=True):
    """An answer.

    Attributes:
        status: As in HTTP.
        content_type: Of `body`; `CONTENT_TYPE`: a list of `Tensor` that lie in the memory which the client gave.
        body: Unless it comes in a descriptor.
        memory_bytes: How long it is there; -1: no descriptor.
        headers: As in HTTP.
    """

    status: int
    content_type: str
    body: bytes = b""
    memory_bytes: int = -1
    headers: dict[str, str] = {}


def address(port: int) -> bytes:
    """Return the socket's name for the server of this port: in Linux's abstract space, where nothing is left behind."""
    return b"\0cubbyhole-handover-%d" % port


def check_memory(fd: int) -> tuple[int, int]:
    """Check that a descriptor is memory that can safely be mapped, whatever its giver does.

    Returns:
        Its inode and size.

    Raises:
        MalformedBody: it is none: not a memfd, not sealed against shrinking (which would end whoever reads it), of huge pages.
    """
    try:
        seals = fcntl.fcntl(fd, fcntl.F_GET_SEALS)
    except OSError as error:
        raise MalformedBody("The descriptor is no memfd; make it by memfd_create.") from error
    if not seals & fcntl.F_SEAL_SHRINK:
        raise MalformedBody("The memfd is not sealed: add F_SEAL_SHRINK before you hand it over.")
    status = os.fstat(fd)
    if status.st_blksize > _LARGEST_PAGE_BYTES:
        raise MalformedBody("The memfd has huge pages, which cannot be handed over.")
    return status.st_ino, status.st_size


def check_tensor(tensor: Tensor, memory_bytes: int) -> None:
    """Check that an array lies within its memory.

    Raises:
        MalformedBody: it does not, or is of a type that cannot be handed over.
    """
    item_bytes = DTYPE_BYTES.get(tensor.dtype)
    if item_bytes is None:
        raise MalformedBody(
            f"Array of type {tensor.dtype[:16]!r} cannot be handed over; there are: {', '.join(DTYPE_BYTES)}."
        )
    sizes = tensor.shape
    if len(sizes) > _MOST_DIMENSIONS or min(sizes, default=0) < 0:
        raise MalformedBody("An array that was handed over has a shape that cannot be.")
    end = tensor.at + math.prod(sizes) * item_bytes
    if tensor.at < 0 or tensor.at % ALIGN_BYTES or end > memory_bytes:
        raise MalformedBody(
            f"An array is said to lie at {tensor.at} to {end:.6g} of {memory_bytes} bytes, from a multiple of {ALIGN_BYTES}."
        )
