# SPDX-License-Identifier: Apache-2.0
"""`AsyncClient`: the same calls as coroutines.

Flow:  predict -> messages.make_message -> httpx -> messages.read_answer
Owns:  an httpx.AsyncClient.
See:   blocking.py, which it mirrors call by call
"""

from __future__ import annotations

import asyncio
import math
import random
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from cubbyhole.client.connections import broken, httpx_or_explain
from cubbyhole.client.messages import Wish, answer_error, make_message, read_answer
from cubbyhole.client.retrying import Attempts, RetryPolicy
from cubbyhole.core.errors import StreamCut

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from typing_extensions import Self

    from cubbyhole.client.messages import Message, Progress


class AsyncClient:
    """Asks one server, on an event loop.

    Args:
        url: Of the server, e.g. "http://127.0.0.1:8000".
        api_key: Sent as X-API-Key.
        timeout_s: Of a whole request, its retries and the pauses between them included; inf: none.
        retries: Further attempts after the first: after 429, 503 and broken connections, as long as time is left.
        idempotent: Running a request twice does no harm. False: nothing is sent again that the server may have run.

    Raises:
        ClientError: httpx is not installed.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        *,
        api_key: str | None = None,
        timeout_s: float = 30.0,
        retries: int = 2,
        idempotent: bool = True,
    ) -> None:
        self.timeout_s = timeout_s
        self._policy = RetryPolicy(retries=retries, idempotent=idempotent)
        self._chance = random.Random()  # noqa: S311  (pauses are no secret)
        self._httpx = httpx_or_explain()
        headers = {} if api_key is None else {"X-API-Key": api_key}
        self._http = self._httpx.AsyncClient(base_url=url, headers=headers, timeout=None)

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
        """Send a value and return the answer.

        Args:
            value: Sent as its type asks for (`client/messages.py`): arrays without JSON, bytes as they are.
            path: Of the API.
            progress: Called with (bytes sent, bytes in all) while the body is sent.
            **wish: Fields of `messages.Wish`: accept, priority, timeout_s, request_id, headers.

        Returns:
            What the answer's content type says: plain data, a read-only array, arrays by name, text, bytes.

        Raises:
            AnswerError: the server answered with 400 or above.
            ServerUnreachable: it could not be reached, or the connection broke, at the last attempt.
            ClientError: the value cannot be sent, or the answer cannot be read.
        """
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
        """Send a value and yield the answer's bytes as they come. Leaving the loop early cancels the request.

        Raises:
            StreamCut: it ended before its end.
            AnswerError, ServerUnreachable, ClientError: as `predict`, before the first bytes.
        """
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
        rest = b""
        async for chunk in self.stream(value, path, **wish):
            *whole, rest = (rest + chunk).split(b"\n")
            for line in whole:
                yield line.decode(errors="replace")
        if rest:
            yield rest.decode(errors="replace")

    async def healthy(self) -> bool:
        """Ask whether the server is there and ready."""
        try:
            return bool((await self._http.get("/health", timeout=5.0)).status_code == 200)
        except self._httpx.HTTPError:
            return False

    async def cancel(self, request_id: str) -> None:
        """Take a request back; needs `LitServer(cancel_by_id=True)`.

        Raises:
            AnswerError: the server does not offer it.
            ServerUnreachable: it cannot be reached.
        """
        try:
            answer = await self._http.delete(f"/requests/{request_id}", timeout=5.0)
        except self._httpx.HTTPError as error:
            raise broken(error, 1) from error
        if answer.status_code >= 400:
            raise answer_error(answer.status_code, answer.content, answer.headers, 1)

    def _message(self, value: Any, path: str, wish: dict[str, Any]) -> Message:
        timeout_s = wish.pop("timeout_s", None)
        if timeout_s is None and not math.isinf(self.timeout_s):
            timeout_s = self.timeout_s
        return make_message(value, Wish(path=path, timeout_s=timeout_s, **wish))

    @asynccontextmanager
    async def _answered(self, message: Message, progress: Progress | None) -> AsyncIterator[Any]:
        """Send until there is an answer below 400; its body is not read yet."""
        attempts = Attempts(self._policy, message.timeout_s, self._chance)
        while True:
            request = self._http.build_request(
                "POST",
                message.path,
                timeout=attempts.begin(),
                content=_given(message, progress),
                headers=message.headers,
            )
            try:
                answer = await self._http.send(request, stream=True)
                if answer.status_code < 400:
                    break
                await answer.aread()
            except self._httpx.HTTPError as error:
                connected = not isinstance(error, self._httpx.ConnectError)
                await asyncio.sleep(attempts.after_break(error, connected=connected))
                continue
            await asyncio.sleep(
                attempts.after_refusal(
                    answer_error(answer.status_code, answer.content, answer.headers, attempts.made)
                )
            )
        try:
            yield answer
        finally:
            await answer.aclose()


async def _given(message: Message, progress: Progress | None) -> AsyncIterator[bytes]:
    for piece in message.pieces(progress):
        yield piece
