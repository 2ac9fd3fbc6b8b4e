# SPDX-License-Identifier: Apache-2.0
"""What a request carries, and its result, copied out of the segment by an observer.

Flow:  AttachedServer.payload -> **read_payload** -> redaction.py -> contents.py -> `cubbyhole inspect --payload`, the inspector's page
Owns:  the copies.

An entry holds its request until it is answered, and its result from the moment it is done until its front took it: mostly less than
a millisecond. A request that fits the slot (384 bytes with its meta) can still be read after the end, until the slot is used again.
Chunks of a stream are gone once its front took them, and are never shown.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from cubbyhole.core.entries import RequestMeta, ResultMeta

PAYLOAD_BYTES_MOST = 16 << 20  # of each part: an observer's memory is bounded by twice this
JSON_TYPE = "application/json"

T = TypeVar("T")


class Payload(msgspec.Struct, frozen=True, kw_only=True):
    """Request and result of one entry. A part that is not there (any more) is None.

    Attributes:
        id: The entry's.
        request, result: The bytes, at most as many as were asked for.
        request_bytes, result_bytes: How many there are in the segment.
        request_meta, result_meta: Content type and such; of plain JSON the defaults.
        status: HTTP status of the result; 0: there is none.
    """

    id: int
    request: bytes | None = None
    request_bytes: int = 0
    request_meta: RequestMeta = RequestMeta()
    result: bytes | None = None
    result_bytes: int = 0
    result_meta: ResultMeta = ResultMeta(content_type=JSON_TYPE)
    status: int = 0

    @property
    def request_type(self) -> str:
        """The request's content type."""
        return self.request_meta.content_type or JSON_TYPE

    @property
    def result_type(self) -> str:
        """The result's content type."""
        return self.result_meta.content_type or JSON_TYPE


def read_payload(request_id: int, found: tuple[Any, ...]) -> Payload:
    """Make a `Payload` of what the core copied."""
    request, request_bytes, request_meta, result, result_bytes, result_meta, status = found
    return Payload(
        id=request_id,
        request=request,
        request_bytes=request_bytes,
        request_meta=_read(request_meta, RequestMeta()),
        result=result,
        result_bytes=result_bytes,
        result_meta=_read(result_meta, ResultMeta(content_type=JSON_TYPE)),
        status=status,
    )


def _read(data: bytes | None, absent: T) -> T:
    if not data:
        return absent
    try:
        return msgspec.msgpack.decode(data, type=type(absent))
    except msgspec.DecodeError:  # cut, or another version's
        return absent
