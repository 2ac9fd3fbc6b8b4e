# SPDX-License-Identifier: Apache-2.0
"""Form bodies -> Starlette's `FormData`, in memory and without an event loop: workers parse forms, with this injected.

Owns:  nothing. Files of any size stay in memory, as the body does that they came in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.datastructures import FormData, Headers, UploadFile
from starlette.formparsers import FormParser, MultiPartException, MultiPartParser

from cubbyhole.core.errors import HTTPError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Coroutine

    from cubbyhole.core.entries import Buffer

PIECE_BYTES = (
    256 * 1024
)  # the parser wants bytes; a piece at a time keeps a large body from being copied whole
NEVER_TO_DISK_BYTES = 1 << 62


class _InMemoryParser(MultiPartParser):
    spool_max_size = NEVER_TO_DISK_BYTES  # parts never go to a file on disk
    max_file_size = NEVER_TO_DISK_BYTES  # the same, by its name in older versions of Starlette


async def _pieces(body: Buffer) -> AsyncGenerator[bytes, None]:
    view = memoryview(body).cast("B")
    for start in range(0, len(view), PIECE_BYTES):
        yield bytes(view[start : start + PIECE_BYTES])
    yield b""


def _completed(coroutine: Coroutine[Any, Any, FormData]) -> FormData:
    """Run a coroutine that never waits for anything but itself."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        form: FormData = stop.value
        return form
    coroutine.close()
    raise RuntimeError(
        "Starlette's form parser waited for something; parts are too large for memory."
    )


def parse_form(body: Buffer, content_type: str) -> FormData:
    """Parse a form.

    Args:
        body: The request body.
        content_type: Its Content-Type, `application/x-www-form-urlencoded` or `multipart/form-data; boundary=...`.

    Returns:
        A mapping of fields. Files are `UploadFile`, whose `file` is rewound and in memory.

    Raises:
        HTTPError: 400, the body is not such a form.
    """
    headers = Headers({"content-type": content_type})
    if content_type.lower().startswith("application/x-www-form-urlencoded"):
        return _completed(FormParser(headers, _pieces(body)).parse())
    try:
        parser = _InMemoryParser(headers, _pieces(body), max_part_size=NEVER_TO_DISK_BYTES)
        form = _completed(parser.parse())
    except MultiPartException as error:
        raise HTTPError(400, f"The request body is not a valid form: {error.message}") from error
    except KeyError as error:  # no boundary= in the content type
        raise HTTPError(400, "The request body is not a valid form: Missing boundary.") from error
    for value in form.values():
        if isinstance(value, UploadFile):
            value.file.seek(0)
    return form
