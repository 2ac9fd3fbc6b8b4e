# SPDX-License-Identifier: Apache-2.0
"""HTTP/1.1 as far as these tests need it, over asyncio: a client that is cheap, and that tells how an answer ended.

Libraries hide what matters here (a connection that broke off, a stream without its end), and 64 of them would take the
CPU from the server.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field


class Broken(Exception):
    """The connection ended before the answer did."""


@dataclass
class Answer:
    """A whole answer."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


def request_bytes(path: str, body: bytes, content_type: str = "application/json") -> bytes:
    """Write a POST."""
    head = f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


class Connection:
    """A keep-alive connection; `ask` opens it again where it was closed.

    Attributes:
        front: The pid of the front that has the connection, where the server tells it at GET /front; 0: not known (yet).
    """

    def __init__(self, url: str) -> None:
        host, _, port = url.removeprefix("http://").partition(":")
        self._host, self._port = host, int(port)
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self.front = 0

    async def open(self) -> None:
        """Connect, and learn who is there."""
        self.front = 0
        self._streams = await asyncio.open_connection(self._host, self._port, limit=1 << 22)
        self.front = int((await self.ask(b"GET /front HTTP/1.1\r\nHost: a\r\n\r\n")).body)

    async def ask(self, request: bytes) -> Answer:
        """Send and read.

        Raises:
            Broken: it ended too early; also an answer that stops in the middle.
        """
        try:
            if self._streams is None:
                await self.open()
            assert self._streams is not None
            return await self._ask(*self._streams, request)
        except (OSError, asyncio.IncompleteReadError, ValueError) as error:
            await self.close()
            raise Broken(repr(error)) from error

    async def _ask(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes
    ) -> Answer:
        writer.write(request)
        await writer.drain()
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        answer = Answer(int(head[0].split()[1]))
        for line in head[1:-2]:
            name, _, value = line.partition(":")
            answer.headers[name.lower()] = value.strip()
        if answer.headers.get("transfer-encoding") == "chunked":
            parts = []
            while size := int((await reader.readuntil(b"\r\n"))[:-2], 16):
                parts.append((await reader.readexactly(size + 2))[:-2])
            await reader.readexactly(2)
            answer.body = b"".join(parts)
        else:
            answer.body = await reader.readexactly(int(answer.headers.get("content-length", "0")))
        if answer.headers.get("connection") == "close":
            await self.close()
        return answer

    async def close(self) -> None:
        """Close it in order."""
        if self._streams is not None:
            writer, self._streams = self._streams[1], None
            writer.close()
