# SPDX-License-Identifier: Apache-2.0
"""Forms are parsed in memory, by Starlette, without an event loop."""

from __future__ import annotations

import httpx
import pytest
from starlette.datastructures import UploadFile

from cubbyhole.core.errors import HTTPError
from cubbyhole.front.forms import parse_form


def encoded(**kwargs: object) -> tuple[bytes, str]:
    request = httpx.Request("POST", "http://x", **kwargs)  # type: ignore[arg-type]
    return request.read(), request.headers["content-type"]


def test_url_encoded_fields() -> None:
    form = parse_form(*encoded(data={"a": "1", "b": ["ä", "&"]}))
    assert form["a"] == "1"
    assert form.getlist("b") == ["ä", "&"]


@pytest.mark.parametrize("size", [0, 10, 3 << 20], ids=["empty", "short", "beyond a spool"])
def test_files_of_any_size_stay_in_memory(size: int) -> None:
    content = bytes(range(256)) * (size // 256 + 1)
    content = content[:size]
    body, content_type = encoded(
        data={"name": "n"}, files={"file": ("f.bin", content, "application/x-mine")}
    )
    form = parse_form(memoryview(body).toreadonly(), content_type)
    upload = form["file"]
    assert isinstance(upload, UploadFile)
    assert upload.file.read() == content
    assert (upload.filename, upload.content_type) == ("f.bin", "application/x-mine")
    assert upload._in_memory
    assert form["name"] == "n"
    upload.file.close()


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"no boundary", "multipart/form-data"),
        (b"not a part", "multipart/form-data; boundary=abc"),
        (b"--abc\r\nContent-Disposition: form-data\r\n\r\nx\r\n--abc--", "multipart/form-data; boundary=abc"),
    ],
)  # fmt: skip
def test_what_is_no_form_is_400(body: bytes, content_type: str) -> None:
    with pytest.raises(HTTPError) as caught:
        parse_form(body, content_type)
    assert caught.value.status_code == 400
