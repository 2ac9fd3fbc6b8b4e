# SPDX-License-Identifier: Apache-2.0
"""`Client`: blocking calls.

Flow:  predict -> messages.make_message -> httpx -> messages.read_answer
Owns:  an httpx.Client.
"""

from __future__ import annotations

import math
import random
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from cubbyhole.client.connections import broken, httpx_or_explain
from cubbyhole.client.messages import Wish, answer_error, make_message, read_answer
from cubbyhole.client.retrying import Attempts, RetryPolicy
from cubbyhole.core.errors import StreamCut

if TYPE_CHECKING:
    from collections.abc import Iterator

    from typing_extensions import Self

    from cubbyhole.client.messages import Message, Progress


class Client:
    """Asks one server. May be used by several threads.

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
        self._http = self._httpx.Client(base_url=url, headers=headers, timeout=None)

    def __enter__(self) -> Self:
        """Be open."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def predict(
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
        with self._answered(message, progress) as answer:
            try:
                content = answer.read()
            except self._httpx.HTTPError as error:
                raise broken(error, 1) from error
            return read_answer(content, answer.headers.get("content-type", ""))

    def stream(self, value: Any = None, path: str = "/predict", **wish: Any) -> Iterator[bytes]:
        """Send a value and yield the answer's bytes as they come. Leaving the loop early cancels the request.

        Raises:
            StreamCut: it ended before its end.
            AnswerError, ServerUnreachable, ClientError: as `predict`, before the first bytes.
        """
        message = self._message(value, path, wish)
        with self._answered(message, None) as answer:
            try:
                yield from answer.iter_bytes()
            except self._httpx.HTTPError as error:
                raise StreamCut(f"The stream broke off: {error}.") from error

    def lines(self, value: Any = None, path: str = "/predict", **wish: Any) -> Iterator[str]:
        """As `stream`, line by line: for streams of JSON lines, and of server-sent events."""
        rest = b""
        for chunk in self.stream(value, path, **wish):
            *whole, rest = (rest + chunk).split(b"\n")
            yield from (line.decode(errors="replace") for line in whole)
        if rest:
            yield rest.decode(errors="replace")

    def healthy(self) -> bool:
        """Ask whether the server is there and ready."""
        try:
            return bool(self._http.get("/health", timeout=5.0).status_code == 200)
        except self._httpx.HTTPError:
            return False

    def cancel(self, request_id: str) -> None:
        """Take a request back; needs `LitServer(cancel_by_id=True)`.

        Raises:
            AnswerError: the server does not offer it.
            ServerUnreachable: it cannot be reached.
        """
        try:
            answer = self._http.delete(f"/requests/{request_id}", timeout=5.0)
        except self._httpx.HTTPError as error:
            raise broken(error, 1) from error
        if answer.status_code >= 400:
            raise answer_error(answer.status_code, answer.content, answer.headers, 1)

    def _message(self, value: Any, path: str, wish: dict[str, Any]) -> Message:
        timeout_s = wish.pop("timeout_s", None)
        if timeout_s is None and not math.isinf(self.timeout_s):
            timeout_s = self.timeout_s
        return make_message(value, Wish(path=path, timeout_s=timeout_s, **wish))

    @contextmanager
    def _answered(self, message: Message, progress: Progress | None) -> Iterator[Any]:
        """Send until there is an answer below 400; its body is not read yet."""
        attempts = Attempts(self._policy, message.timeout_s, self._chance)
        while True:
            request = self._http.build_request(
                "POST",
                message.path,
                timeout=attempts.begin(),
                content=message.pieces(progress),
                headers=message.headers,
            )
            try:
                answer = self._http.send(request, stream=True)
                if answer.status_code < 400:
                    break
                answer.read()
            except self._httpx.HTTPError as error:
                connected = not isinstance(error, self._httpx.ConnectError)
                time.sleep(attempts.after_break(error, connected=connected))
                continue
            time.sleep(
                attempts.after_refusal(
                    answer_error(answer.status_code, answer.content, answer.headers, attempts.made)
                )
            )
        try:
            yield answer
        finally:
            answer.close()
