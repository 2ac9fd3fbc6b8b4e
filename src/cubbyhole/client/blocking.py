# SPDX-License-Identifier: Apache-2.0
"""`Client`: blocking calls.

Flow:  predict -> messages.make_message -> httpx -> messages.read_answer
Owns:  an httpx.Client.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
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
    from collections.abc import Iterator

    from typing_extensions import Self

    from cubbyhole.client.messages import Message, Progress


class Client(Asker):
    """Asks one server. May be used by several threads. Arguments are `asking.Asker`'s."""

    kind = "Client"

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
        lines = Lines()
        for chunk in self.stream(value, path, **wish):
            yield from lines.add(chunk)
        yield from lines.end()

    def healthy(self) -> bool:
        """Ask whether the server is there and ready."""
        try:
            return bool(self._http.get(HEALTH, timeout=QUICK_S).status_code == 200)
        except self._httpx.HTTPError:
            return False

    def cancel(self, request_id: str) -> None:
        """Take a request back; needs `LitServer(cancel_by_id=True)`.

        Raises:
            AnswerError: the server does not offer it.
            ServerUnreachable: it cannot be reached.
        """
        try:
            answer = self._http.delete(f"/requests/{request_id}", timeout=QUICK_S)
        except self._httpx.HTTPError as error:
            raise broken(error, 1) from error
        check_answer(answer)

    @contextmanager
    def _answered(self, message: Message, progress: Progress | None) -> Iterator[Any]:
        """Send until there is an answer below 400; its body is not read yet."""
        attempts = self._attempts(message)
        while True:
            request = self._request(message, attempts, message.pieces(progress))
            try:
                answer = self._http.send(request, stream=True)
                if answer.status_code < 400:
                    break
                answer.read()
            except self._httpx.HTTPError as error:
                time.sleep(self._pause_after_break(error, attempts))
                continue
            time.sleep(pause_after_refusal(answer, attempts))
        try:
            yield answer
        finally:
            answer.close()
