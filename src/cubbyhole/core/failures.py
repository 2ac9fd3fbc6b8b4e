# SPDX-License-Identifier: Apache-2.0
"""The last failures of a front, kept where they outlive every process but the supervisor: in the roster's memory.

A front writes them, as every failure ends there, also those that no worker can tell of: its death, a deadline. Each front has its
own ring, so that there is one writer. A reader may look at any time: a record whose sequence is odd, or changes under the look, is
being written, and is left out. So is one whose writer died half way, until the ring comes round.

Ring:    count u64 | 56 spare | `RECORDS` records
Record:  sequence u64 | bytes u64 | MessagePack of `FailureRecord`
See:     docs/decisions/0012-failures-are-kept-by-fronts.md
"""

from __future__ import annotations

import contextlib
import struct

import msgspec

RECORDS = 64
RECORD_BYTES = 4096
RING_BYTES = 64 + RECORDS * RECORD_BYTES
_HEAD_BYTES = 16
_ROOM_BYTES = RECORD_BYTES - _HEAD_BYTES
_MESSAGE_CHARACTERS = 500


class FailureRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A request that was answered with 500 or above.

    Attributes:
        id: The entry's.
        request_id: The client's X-Request-ID, or empty.
        endpoint: Its number.
        code, status, message, traceback_text: Of the `Failure`; a long traceback keeps its end.
        worker: Who held the entry; -1: nobody, or not known.
        attempt: 0 at the first claim.
        times_ns: received, ready, claimed, first chunk, done: monotonic ns, 0 where it did not come to that.
        failed_ns: When the front answered, monotonic.
        failed_at_s: The same as seconds since 1970.
    """

    id: int
    request_id: str = ""
    endpoint: int = 0
    code: str = ""
    status: int = 500
    message: str = ""
    traceback_text: str = ""
    worker: int = -1
    attempt: int = 0
    times_ns: tuple[int, int, int, int, int] = (0, 0, 0, 0, 0)
    failed_ns: int = 0
    failed_at_s: float = 0.0


_decode = msgspec.msgpack.Decoder(FailureRecord).decode


def _fit(record: FailureRecord) -> bytes:
    record = msgspec.structs.replace(record, message=record.message[:_MESSAGE_CHARACTERS])
    data = msgspec.msgpack.encode(record)
    excess_bytes = len(data) - _ROOM_BYTES
    if excess_bytes <= 0 or not record.traceback_text:
        return data
    text = record.traceback_text.encode(errors="replace")[excess_bytes + 8 :]  # and for the dots
    kept = f"...{text.decode(errors='ignore')}"
    return msgspec.msgpack.encode(msgspec.structs.replace(record, traceback_text=kept))


def keep_failure(ring: memoryview, record: FailureRecord) -> None:
    """Write a record over the oldest one. Only the ring's own front calls it."""
    data = _fit(record)
    if len(data) > _ROOM_BYTES:  # an absurd request id: the rest matters more
        data = _fit(msgspec.structs.replace(record, request_id="", traceback_text=""))
    (count,) = struct.unpack_from("=Q", ring)
    at = 64 + count % RECORDS * RECORD_BYTES
    (sequence,) = struct.unpack_from("=Q", ring, at)
    writing = sequence | 1  # it may be odd already: our predecessor died half way
    struct.pack_into("=QQ", ring, at, writing, len(data))
    ring[at + _HEAD_BYTES : at + _HEAD_BYTES + len(data)] = data
    struct.pack_into("=Q", ring, at, writing + 1)
    struct.pack_into("=Q", ring, 0, count + 1)


def read_failures(ring: memoryview) -> list[FailureRecord]:
    """Return the records of a ring, oldest first."""
    (count,) = struct.unpack_from("=Q", ring)
    found = []
    for number in range(max(0, count - RECORDS), count):
        at = 64 + number % RECORDS * RECORD_BYTES
        sequence, size_bytes = struct.unpack_from("=QQ", ring, at)
        data = bytes(ring[at + _HEAD_BYTES : at + _HEAD_BYTES + min(size_bytes, _ROOM_BYTES)])
        (again,) = struct.unpack_from("=Q", ring, at)
        if sequence == again and not sequence & 1 and data:
            with contextlib.suppress(
                msgspec.MsgspecError, ValueError
            ):  # written over; the others are told
                found.append(_decode(data))
    return found
