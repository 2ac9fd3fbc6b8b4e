# SPDX-License-Identifier: Apache-2.0
"""One request through a lane that did not come by HTTP: the lane's ASGI on the one side, plain values on the other.

So what comes another way (handover.py, grpc_service.py) has the same key, limits, times, entry and failure record as what comes by HTTP.

Flow:  handover.py, grpc_service.py -> **call** -> Lane.answer -> Answered
Owns:  nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Mapping

    from cubbyhole.core.entries import Buffer
    from cubbyhole.front.lane import Lane


class Answered(msgspec.Struct, frozen=True):
    """An answer; names of headers are in lower case, and its body's type is apart."""

    status: int
    content_type: str
    headers: dict[str, str]
    body: Any


class Question(msgspec.Struct, frozen=True):
    """A request; names of headers are in lower case. `more` goes into the ASGI scope."""

    path: str
    body: Any = b""
    headers: Mapping[str, str] = {}
    more: Mapping[str, Any] = {}


class _Call:
    def __init__(self, body: Buffer, left: asyncio.Event) -> None:
        self._body = body
        self._left = left
        self._begun = False
        self.head: Any = None
        self.parts: list[Any] = []

    async def receive(self) -> Any:
        if not self._begun:
            self._begun = True
            body, self._body = self._body, b""
            return {"type": "http.request", "body": body, "more_body": False}
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.head = message
        elif message.get("body"):
            self.parts.append(message["body"])


async def call(lane: Lane, question: Question, left: asyncio.Event) -> Answered | None:
    """Have a lane answer.

    Args:
        lane: Of the API; one that does not stream.
        question: The request.
        left: Set when nobody waits for the answer any more.

    Returns:
        None where its asker left.
    """
    under_way = _Call(question.body, left)
    scope: dict[str, Any] = {
        "type": "http",
        "method": "POST",
        "path": question.path,
        "query_string": b"",
        "headers": [
            (name.encode("latin-1"), value.encode("latin-1", "replace"))
            for name, value in question.headers.items()
        ],
        **question.more,
    }
    await lane.answer(scope, under_way.receive, under_way.send)
    if under_way.head is None:
        return None
    headers = {
        name.decode("latin-1"): value.decode("latin-1") for name, value in under_way.head["headers"]
    }
    parts = under_way.parts
    body = parts[0] if len(parts) == 1 else b"".join(parts)
    return Answered(under_way.head["status"], headers.pop("content-type", ""), headers, body)
