# SPDX-License-Identifier: Apache-2.0
"""`AsyncClient`: the same calls as coroutines.

Flow:  predict -> messages.make_message -> httpx -> messages.read_answer
Owns:  an httpx.AsyncClient.
See:   blocking.py, which it mirrors call by call
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from cubbyhole.client.asking import (
    HEALTH,
    QUICK_S,
    Asker,
    Lines,
    check_answer,
    pause_after_refusal,
)
from cubbyhole.client.connections import broken
from cubbyhole.client.messages import read_answer
from cubbyhole.core.errors import StreamCut

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from typing_extensions import Self

    from cubbyhole.client.messages import Message, Progress


class AsyncClient(Asker):
    """Asks one server, on an event loop. Arguments are `asking.Asker`'s; what calls take, give and raise is `Client`'s."""

    kind = "AsyncClient"

    async def __aenter__(self) -> Self:
        """Be open."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close."""
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def predict(
        self,
        value: Any = None,
        path: str = "/predict",
        *,
        progress: Progress | None = None,
        **wish: Any,
    ) -> Any:
        """Send a value and return the answer: see `Client.predict`."""
        message = self._message(value, path, wish)
        async with self._answered(message, progress) as answer:
            try:
                content = await answer.aread()
            except self._httpx.HTTPError as error:
                raise broken(error, 1) from error
            return read_answer(content, answer.headers.get("content-type", ""))

    async def stream(
        self, value: Any = None, path: str = "/predict", **wish: Any
    ) -> AsyncIterator[bytes]:
        """Send a value and yield the answer's bytes as they come: see `Client.stream`."""
        message = self._message(value, path, wish)
        async with self._answered(message, None) as answer:
            try:
                async for chunk in answer.aiter_bytes():
                    yield chunk
            except self._httpx.HTTPError as error:
                raise StreamCut(f"The stream broke off: {error}.") from error

    async def lines(
        self, value: Any = None, path: str = "/predict", **wish: Any
    ) -> AsyncIterator[str]:
        """As `stream`, line by line: for streams of JSON lines, and of server-sent events."""
        lines = Lines()
        async for chunk in self.stream(value, path, **wish):
            for line in lines.add(chunk):
                yield line
        for line in lines.end():
            yield line

    async def healthy(self) -> bool:
        """Ask whether the server is there and ready."""
        try:
            return bool((await self._http.get(HEALTH, timeout=QUICK_S)).status_code == 200)
        except self._httpx.HTTPError:
            return False

    async def cancel(self, request_id: str) -> None:
        """Take a request back: see `Client.cancel`."""
        try:
            answer = await self._http.delete(f"/requests/{request_id}", timeout=QUICK_S)
        except self._httpx.HTTPError as error:
            raise broken(error, 1) from error
        check_answer(answer)

    @asynccontextmanager
    async def _answered(self, message: Message, progress: Progress | None) -> AsyncIterator[Any]:
        """Send until there is an answer below 400; its body is not read yet."""
        attempts = self._attempts(message)
        while True:
            request = self._request(message, attempts, _given(message, progress))
            try:
                answer = await self._http.send(request, stream=True)
                if answer.status_code < 400:
                    break
                await answer.aread()
            except self._httpx.HTTPError as error:
                await asyncio.sleep(self._pause_after_break(error, attempts))
                continue
            await asyncio.sleep(pause_after_refusal(answer, attempts))
        try:
            yield answer
        finally:
            await answer.aclose()


async def _given(message: Message, progress: Progress | None) -> AsyncIterator[bytes]:
    for piece in message.pieces(progress):
        yield piece
