# SPDX-License-Identifier: Apache-2.0
"""What asking is, whether it blocks or is awaited: `Client` and `AsyncClient` add only when they wait.

Flow:  blocking.py, asynchronous.py -> **Asker** -> messages.py, retrying.py
Owns:  an httpx client of the kind that its class names.
"""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING, Any, ClassVar

from cubbyhole.client.connections import httpx_or_explain
from cubbyhole.client.messages import Wish, answer_error, make_message
from cubbyhole.client.retrying import Attempts, RetryPolicy

if TYPE_CHECKING:
    from cubbyhole.client.messages import Message

HEALTH = "/health"
QUICK_S = 5.0  # for questions that no model answers


class Asker:
    """Asks one server.

    Args:
        url: Of the server, e.g. "http://127.0.0.1:8000".
        api_key: Sent as X-API-Key.
        timeout_s: Of a whole request, its retries and the pauses between them included; inf: none.
        retries: Further attempts after the first: after 429, 503 and broken connections, as long as time is left.
        idempotent: Running a request twice does no harm. False: nothing is sent again that the server may have run.

    Raises:
        ClientError: httpx is not installed.
    """

    kind: ClassVar[str]  # of httpx

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
        self._http = getattr(self._httpx, self.kind)(base_url=url, headers=headers, timeout=None)

    def _message(self, value: Any, path: str, wish: dict[str, Any]) -> Message:
        timeout_s = wish.pop("timeout_s", None)
        if timeout_s is None and not math.isinf(self.timeout_s):
            timeout_s = self.timeout_s
        return make_message(value, Wish(path=path, timeout_s=timeout_s, **wish))

    def _attempts(self, message: Message) -> Attempts:
        return Attempts(self._policy, message.timeout_s, self._chance)

    def _request(self, message: Message, attempts: Attempts, content: Any) -> Any:
        """Begin one more attempt."""
        return self._http.build_request(
            "POST",
            message.path,
            timeout=attempts.begin(),
            content=content,
            headers=message.headers,
        )

    def _pause_after_break(self, error: Exception, attempts: Attempts) -> float:
        connected = not isinstance(error, self._httpx.ConnectError)
        return attempts.after_break(error, connected=connected)


def pause_after_refusal(answer: Any, attempts: Attempts) -> float:
    """Return the seconds to wait before an answer of 400 or above is asked for again.

    Raises:
        AnswerError: it is not.
    """
    return attempts.after_refusal(
        answer_error(answer.status_code, answer.content, answer.headers, attempts.made)
    )


def check_answer(answer: Any) -> None:
    """Refuse an answer of 400 or above.

    Raises:
        AnswerError: it is one.
    """
    if answer.status_code >= 400:
        raise answer_error(answer.status_code, answer.content, answer.headers, 1)


class Lines:
    """Makes lines of bytes that come in pieces."""

    def __init__(self) -> None:
        self._rest = b""

    def add(self, chunk: bytes) -> list[str]:
        """Return the lines that are whole now."""
        *whole, self._rest = (self._rest + chunk).split(b"\n")
        return [line.decode(errors="replace") for line in whole]

    def end(self) -> list[str]:
        """Return the last one, if it had no end."""
        return [self._rest.decode(errors="replace")] if self._rest else []
