# SPDX-License-Identifier: Apache-2.0
"""A body in parts, so that large arrays are copied once on their way, into the channel's memory, or not at all.

Flow:  writing.py, specs/oip.py -> **Parts** -> worker/rooms.py (one buffer, in the segment where that is possible) -> publish
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cubbyhole.core.entries import ResultMeta

if TYPE_CHECKING:
    from collections.abc import Callable

    from cubbyhole.core.entries import Buffer


class Parts:
    """A head, and what follows it.

    Args:
        head: Bytes that the format begins with.
        rest: Buffers of single bytes that follow, one after the other.
        pad: (head, size) -> the same head made longer, to exactly that size; None: it cannot be.
        meta: Of the answer.
        length_header: The name of a header that says how long the head is, if the protocol has one.
    """

    __slots__ = ("head", "length_header", "meta", "pad", "rest")

    def __init__(
        self,
        head: bytes,
        rest: list[Buffer],
        pad: Callable[[bytes, int], bytes] | None = None,
        *,
        meta: ResultMeta | None = None,
        length_header: str = "",
    ) -> None:
        self.head = head
        self.rest = rest
        self.pad = pad
        self.meta = meta or ResultMeta()
        self.length_header = length_header

    @property
    def size_bytes(self) -> int:
        """How long the body is."""
        return len(self.head) + sum(map(len, self.rest))

    def lengthen_head(self, size_bytes: int) -> bool:
        """Make the head exactly so long, where it can be."""
        if len(self.head) != size_bytes:
            if self.pad is None or len(self.head) > size_bytes:
                return False
            self.head = self.pad(self.head, size_bytes)
        return True

    def fill(self, into: memoryview) -> None:
        """Write the body into memory of its size."""
        at = len(self.head)
        into[:at] = self.head
        for part in self.rest:
            into[at : at + len(part)] = part
            at += len(part)

    def whole(self) -> bytes:
        """Return the body as one bytes object."""
        return b"".join((self.head, *self.rest))

    def final_meta(self) -> ResultMeta:
        """Return the answer's meta, with the length of the head as it is now."""
        if not self.length_header:
            return self.meta
        length = (self.length_header, str(len(self.head)))
        return ResultMeta(self.meta.content_type, [*self.meta.headers, length])


def pad_with_spaces(head: bytes, size_bytes: int) -> bytes:
    """Lengthen JSON, which may end in spaces."""
    return head.ljust(size_bytes)


def pad_npy(head: bytes, size_bytes: int) -> bytes:
    """Lengthen the head of an npy file of version 1: spaces before its last character, and the length of what it says."""
    fixed = 10  # magic, version, length
    text = head[fixed:-1].ljust(size_bytes - fixed - 1) + b"\n"
    return head[: fixed - 2] + len(text).to_bytes(2, "little") + text


def pad_safetensors(head: bytes, size_bytes: int) -> bytes:
    """Lengthen the head of safetensors: its JSON may end in spaces."""
    return (size_bytes - 8).to_bytes(8, "little") + head[8:].ljust(size_bytes - 8)
