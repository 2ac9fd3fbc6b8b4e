# SPDX-License-Identifier: Apache-2.0
"""Very many requests under way at once, from one thread: each is a connection on which nobody reads the answer yet."""

from __future__ import annotations

import socket
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator

HEAD = (
    "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n"
    "content-type: application/json\r\n{more}content-length: {length}\r\n\r\n"
)


@contextmanager
def crowd(
    url: str,
    count: int,
    path: str = "/predict",
    headers: dict[str, str] | None = None,
    **body: object,
) -> Iterator[None]:
    """So many requests are sent; their clients leave when the `with` ends."""
    host, _, port = url.removeprefix("http://").partition(":")
    data = msgspec.json.encode(body)
    more = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
    message = HEAD.format(path=path, length=len(data), more=more).encode() + data
    with ExitStack() as open_ones:
        for _ in range(count):
            client = open_ones.enter_context(socket.create_connection((host, int(port))))
            client.sendall(message)
        yield
