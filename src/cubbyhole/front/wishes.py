# SPDX-License-Identifier: Apache-2.0
"""What a client wishes by headers, X-Priority and X-Request-Timeout, and how much of it is granted.

A shorter time-out harms nobody else, so every client may ask for it. An order among clients is the operator's to allow: by
`LitServer(priorities=True)`, or by a `LitAPI.rank_request` of its own.

Flow:  lane.py -> meta.MetaReader (the pass over the headers) -> **Wishes.grant** -> rank, deadline
Owns:  nothing.
See:   scheduling/policy.py, docs/guide/priorities.md
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from cubbyhole.api.lit_api import LitAPI, overrides
from cubbyhole.core.clock import deadline_after
from cubbyhole.core.errors import CubbyholeError
from cubbyhole.scheduling import policy

if TYPE_CHECKING:
    from collections.abc import Mapping

logger = logging.getLogger(__name__)

PRIORITY = b"x-priority"
TIMEOUT = b"x-request-timeout"


class BadWish(CubbyholeError):
    """A header cannot be read."""

    code = "bad_header"
    status = 400


class Wishes:
    """What the clients of one API may wish.

    Args:
        lit_api: Its `rank_request`, if it has one, gives the class of a request.
        priorities: The header X-Priority does, else.
    """

    def __init__(self, lit_api: LitAPI, *, priorities: bool) -> None:
        self._asks_api = overrides(lit_api, "rank_request")
        self._lit_api = lit_api
        self.ordered = priorities or self._asks_api

    def grant_deadline(
        self, wishes: Mapping[bytes, bytes], received_ns: int, deadline_ns: int
    ) -> int:
        """Return the server's deadline, or the client's where that is sooner.

        Raises:
            BadWish: the header is no number of seconds.
        """
        value = wishes.get(TIMEOUT)
        if value is None:
            return deadline_ns
        try:
            return min(deadline_ns, deadline_after(policy.parse_timeout_s(value), received_ns))
        except ValueError as error:
            raise BadWish(str(error)) from error

    def priority(
        self, wishes: Mapping[bytes, bytes] | None, headers: list[tuple[bytes, bytes]]
    ) -> int:
        """Return the class of a request, of an API whose requests are `ordered`.

        Raises:
            BadWish: the header is no class.
        """
        if self._asks_api:
            return self._ask_api(headers)
        if wishes is None or PRIORITY not in wishes:
            return policy.DEFAULT_CLASS
        try:
            return policy.parse_priority(wishes[PRIORITY])
        except ValueError as error:
            raise BadWish(str(error)) from error

    def _ask_api(self, headers: list[tuple[bytes, bytes]]) -> int:
        decoded: dict[str, str] = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in headers
        }
        answer: Any = None
        try:
            answer = self._lit_api.rank_request(decoded)
            return min(max(int(answer), policy.MOST_URGENT), policy.LEAST_URGENT)
        except Exception:
            # An order that cannot be told is no reason to refuse the request.
            logger.exception(
                "rank_request failed: path=%s answer=%r", self._lit_api.api_path, answer
            )
            return policy.DEFAULT_CLASS
