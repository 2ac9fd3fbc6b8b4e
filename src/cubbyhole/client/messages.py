# SPDX-License-Identifier: Apache-2.0
"""Values <-> bodies of HTTP messages, without any I/O: what both clients share.

    sent                           as
    numpy array, torch tensor      application/x-npy
    dict of arrays                 application/x-safetensors
    anything with arrays in it     application/msgpack
    bytes, bytearray, memoryview   application/octet-stream
    anything else                  application/json

An answer is read by its content type; types of none of our formats are given as bytes, text as str.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from cubbyhole.core.errors import AnswerError, ClientError, MalformedBody
from cubbyhole.formats import media
from cubbyhole.formats.reading import BodyReader
from cubbyhole.formats.writing import write_body

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from cubbyhole.core.entries import Buffer

    Progress: TypeAlias = Callable[[int, int], object]  # bytes sent, bytes in all

PIECE_BYTES = (
    1 << 18
)  # what is handed to the connection at once: small enough for a progress bar to move
_ARRAYS_WANTED = (
    "application/x-npy, application/x-safetensors, application/msgpack;q=0.9, "
    "application/json;q=0.8, */*;q=0.1"
)
_BINARY = (media.NPY, media.SAFETENSORS, media.MSGPACK, media.ARROW)
_read_binary = BodyReader("value", _BINARY).read


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What a caller asks for beside the value.

    Attributes:
        path: Of the API.
        accept: Media types for the answer; empty: arrays where the request has arrays, else anything.
        priority: X-Priority, 0 (most urgent) to 9; needs `LitServer(priorities=True)`.
        timeout_s: Of the whole request; sent along, so that the server does not run it later.
        request_id: X-Request-ID; empty: one is made. All attempts have the same.
        headers: More of them.
    """

    path: str = "/predict"
    accept: str = ""
    priority: int | None = None
    timeout_s: float | None = None
    request_id: str = ""
    headers: Mapping[str, str] = {}


class Message(msgspec.Struct, frozen=True):
    """A request that can be sent more than once."""

    path: str
    headers: dict[str, str]
    parts: list[Any]
    size_bytes: int
    timeout_s: float | None

    def pieces(self, progress: Progress | None = None) -> Iterator[bytes]:
        """Give the body piece by piece; `progress` hears of each after it was taken."""
        sent_bytes = 0
        for part in self.parts:
            view = memoryview(part)
            for start in range(0, len(view), PIECE_BYTES):
                piece = view[start : start + PIECE_BYTES]
                yield bytes(piece)
                sent_bytes += len(piece)
                if progress is not None:
                    progress(sent_bytes, self.size_bytes)


def make_message(value: Any, wish: Wish) -> Message:
    """Make the request for a value.

    Raises:
        ClientError: it cannot be written in any of our formats.
    """
    name = format_for(value)
    try:
        if name == media.JSON:
            parts: list[Buffer] = [msgspec.json.encode(value)]
        else:
            body = write_body(name, value)
            parts = [body.head, *body.rest]
    except (TypeError, ValueError, OverflowError) as error:
        raise ClientError(f"The value cannot be sent: {error}") from error
    headers = {
        "Content-Type": media.media_type(name),
        "Content-Length": str(sum(len(part) for part in parts)),
        "Accept": wish.accept or (_ARRAYS_WANTED if name in _BINARY else "*/*"),
        "X-Request-ID": wish.request_id or uuid.uuid4().hex,
    }
    if wish.priority is not None:
        headers["X-Priority"] = str(wish.priority)
    if wish.timeout_s is not None:
        headers["X-Request-Timeout"] = f"{wish.timeout_s:.3f}"
    headers.update(wish.headers)
    return Message(wish.path, headers, parts, int(headers["Content-Length"]), wish.timeout_s)


def format_for(value: Any) -> str:
    """Return the name of the format in which a value is sent."""
    if isinstance(value, bytes | bytearray | memoryview):
        return media.RAW
    if _is_array(value):
        return media.NPY
    if isinstance(value, dict) and value and all(map(_is_array, value.values())):
        return media.SAFETENSORS
    return media.MSGPACK if _holds_array(value) else media.JSON


def _is_array(value: Any) -> bool:
    return hasattr(value, "__array__") and hasattr(value, "shape")


def _holds_array(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_holds_array, value.values()))
    if isinstance(value, list | tuple):
        return any(map(_holds_array, value))
    return _is_array(value)


def read_answer(content: bytes, content_type: str) -> Any:
    """Read an answer.

    Returns:
        Plain data, a read-only array, arrays by name, a `pyarrow.Table`, text or bytes, as its content type says.

    Raises:
        ClientError: it is not what its content type says.
    """
    name = media.format_of(content_type) if content_type else media.RAW
    try:
        if name == media.JSON:
            return msgspec.json.decode(content)
        if name in _BINARY:
            return _read_binary(content, content_type)
    except (msgspec.DecodeError, MalformedBody) as error:
        raise ClientError(f"The server's answer is no {content_type}: {error}") from error
    return content.decode(errors="replace") if content_type.startswith("text/") else content


def answer_error(
    status: int, content: bytes, headers: Mapping[str, str], attempts: int
) -> AnswerError:
    """Make the error of an answer of 400 or above; names of headers are in lower case."""
    try:
        detail: Any = msgspec.json.decode(content)
    except msgspec.DecodeError:
        detail = content.decode(errors="replace")[:500]
    if isinstance(detail, dict):
        detail = detail.get("detail", detail.get("error", detail))
    return AnswerError(
        status,
        detail,
        request_id=headers.get("x-request-id", ""),
        retry_after_s=retry_after_s(headers.get("retry-after", "")),
        attempts=attempts,
    )


def retry_after_s(value: str) -> float | None:
    """Read Retry-After in seconds; a date, which our server never sends, counts as none."""
    return float(value) if value.isascii() and value.isdigit() and len(value) < 10 else None
