# SPDX-License-Identifier: Apache-2.0
"""The last requests of a server, bodies included, so that one can be sent again. Opt-in; in a memfd of its own, as large as was asked for.

Each front has two rooms of which it is the only writer: one for whatever comes, and one for requests that failed, which the next
thousand good ones must not push out. A room is a ring of bytes and, in front, an index of fixed cells. Positions count the bytes ever
written, so a reader knows by the room's counter whether what it copied was written over meanwhile; a checksum tells the rest.

Room:    reserved u64 | count u64 | 48 spare | `CELLS` cells | ring of bytes
Cell:    id u64 | position u64 | bytes u64 | crc32 u64
Record:  MessagePack of `KeptRequest`

Flow:  front/keeping.py -> **KeptRequests.keep** ... observer -> **read_kept** -> cubbyhole replay
Owns:  the memfd.
See:   docs/guide/seeing.md
"""

from __future__ import annotations

import mmap
import os
import struct
import zlib
from typing import Any

import msgspec

from cubbyhole.core.roster import anonymous_file

NAME = "cubbyhole-kept"
CELLS = 2048
_CELL_BYTES = 32
_HEAD_BYTES = 64
_INDEX_BYTES = CELLS * _CELL_BYTES
FAILED_SHARE = 4  # a quarter of a front's memory is for what failed


class KeptRequest(msgspec.Struct, frozen=True, array_like=True):
    """A request as its client sent it, without its headers: those carry keys and cookies.

    Attributes:
        id: The entry's.
        request_id: The client's X-Request-ID, or empty.
        method, path, query: As in the request line.
        content_type: The only header that is kept.
        body: Whole.
        received_at_s: Seconds since 1970.
        status: Of the answer where it failed; 0 else.
    """

    id: int
    request_id: str
    method: str
    path: str
    query: str
    content_type: str
    body: bytes
    received_at_s: float
    status: int = 0


_decode = msgspec.msgpack.Decoder(KeptRequest).decode
_encode = msgspec.msgpack.Encoder().encode


class _Room:
    """One ring with its index."""

    def __init__(self, memory: memoryview) -> None:
        self._memory = memory
        self.ring_bytes = len(memory) - _HEAD_BYTES - _INDEX_BYTES

    def keep(self, request_id: int, data: bytes) -> bool:
        """Write a record over the oldest ones. False: it is larger than the room."""
        size = len(data)
        if size > self.ring_bytes:
            return False
        reserved, count = struct.unpack_from("=QQ", self._memory)
        at = reserved % self.ring_bytes
        if at + size > self.ring_bytes:  # records do not wrap: the rest of the ring stays empty
            reserved += self.ring_bytes - at
            at = 0
        struct.pack_into(
            "=Q", self._memory, 0, reserved + size
        )  # first: readers of what lay there know
        start = _HEAD_BYTES + _INDEX_BYTES + at
        self._memory[start : start + size] = data
        cell = _HEAD_BYTES + count % CELLS * _CELL_BYTES
        struct.pack_into("=QQQQ", self._memory, cell, request_id, reserved, size, zlib.crc32(data))
        struct.pack_into("=Q", self._memory, 8, count + 1)
        return True

    def read(self, request_id: int | None = None) -> list[KeptRequest]:
        """Return the records that are whole, oldest first; only those of one id, where one is given."""
        (count,) = struct.unpack_from("=Q", self._memory, 8)
        found = []
        for number in range(max(0, count - CELLS), count):
            at = _HEAD_BYTES + number % CELLS * _CELL_BYTES
            owner, position, size, checksum = struct.unpack_from("=QQQQ", self._memory, at)
            if (request_id is None or owner == request_id) and self._is_there(position, size):
                start = _HEAD_BYTES + _INDEX_BYTES + position % self.ring_bytes
                data = bytes(self._memory[start : start + size])
                if self._is_there(position, size) and zlib.crc32(data) == checksum:
                    found.append(_decode(data))
        return found

    def _is_there(self, position: int, size: int) -> bool:
        (reserved,) = struct.unpack_from("=Q", self._memory)
        return 0 < size <= self.ring_bytes and position + self.ring_bytes >= reserved


class KeptRequests:
    """The rooms of all fronts.

    Args:
        fd: Of the memfd.
        fronts: How many share it.
        writable: False for whoever only looks.
    """

    def __init__(self, fd: int, fronts: int, *, writable: bool = True) -> None:
        self._fd = fd
        access = mmap.ACCESS_WRITE if writable else mmap.ACCESS_READ
        size_bytes = os.fstat(fd).st_size
        self._map = mmap.mmap(fd, size_bytes, access=access)
        self._bytes = memoryview(self._map)
        share = size_bytes // fronts // 8 * 8
        failed = max(share // FAILED_SHARE // 8 * 8, _HEAD_BYTES + _INDEX_BYTES + 8)
        self._rooms: list[tuple[_Room, _Room]] = []
        for front in range(fronts):
            start = front * share
            self._rooms.append(
                (
                    _Room(self._bytes[start : start + share - failed]),
                    _Room(self._bytes[start + share - failed : start + share]),
                )
            )

    @classmethod
    def create(cls, size_bytes: int, fronts: int) -> KeptRequests:
        """Make empty rooms, `size_bytes` for all fronts together; memory is used as far as it is written."""
        least = fronts * 4 * (_HEAD_BYTES + _INDEX_BYTES)
        fd = anonymous_file(NAME)
        os.ftruncate(fd, max(size_bytes, least))
        return cls(fd, fronts)

    @property
    def inode(self) -> int:
        """Tells this memory from another server's."""
        return os.fstat(self._fd).st_ino

    def limit_bytes(self, front: int) -> int:
        """Return how large a kept body may be: several must fit."""
        return self._rooms[front][0].ring_bytes // 4

    def keep(self, front: int, request: KeptRequest) -> None:
        """Keep a request; one with a status among those that failed. Only that front calls it."""
        self._rooms[front][request.status != 0].keep(request.id, _encode(request))

    def read(self, request_id: int | None = None) -> list[KeptRequest]:
        """Return what is kept; a failed one twice, at last as it failed."""
        found: list[KeptRequest] = []
        for kind in (0, 1):
            for rooms in self._rooms:
                found += rooms[kind].read(request_id)
        return found

    def close(self) -> None:
        """Unmap."""
        self._rooms.clear()
        self._bytes.release()
        self._map.close()
        os.close(self._fd)


def find(requests: list[KeptRequest], name: str) -> KeptRequest | None:
    """Return the last of them with that id, the entry's or the client's."""
    matching: list[Any] = [one for one in requests if name in (str(one.id), one.request_id)]
    return matching[-1] if matching else None
