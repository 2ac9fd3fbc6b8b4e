# SPDX-License-Identifier: Apache-2.0
"""Whether a request is sent again, and after how long.

A refusal before the server took the request (429, 503) may always be followed by another try, and so may a connection that could not
be made. What broke later, and a 503 after a worker's death, may have run already: it is sent again only if running it twice does no
harm (`idempotent`). The server does not tell these two kinds of 503 apart, so without `idempotent` neither is tried again.

Owns:  the count and the time of one request's attempts.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

import msgspec

from cubbyhole.client.connections import broken

if TYPE_CHECKING:
    import random

    from cubbyhole.core.errors import AnswerError

FIRST_S = 0.1
LONGEST_S = 8.0
LEAST_S = 0.001  # a time that is over is still some time for httpx
AGAIN = frozenset((429, 502, 503))


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """When to try again.

    Attributes:
        retries: Further attempts after the first, at most.
        idempotent: Running a request twice does no harm, which is true of most models.
    """

    retries: int = 2
    idempotent: bool = True


class Attempts:
    """The attempts at one request.

    Args:
        policy: The client's.
        timeout_s: For all of them together, with the pauses between; None: no limit.
        chance: For the pauses.
    """

    def __init__(self, policy: RetryPolicy, timeout_s: float | None, chance: random.Random) -> None:
        self.made = 0
        self._policy = policy
        self._until_s = math.inf if timeout_s is None else time.monotonic() + timeout_s
        self._chance = chance

    def begin(self) -> float | None:
        """Count one more attempt, and return the seconds that it has; None: no limit."""
        self.made += 1
        left_s = self._until_s - time.monotonic()
        return None if math.isinf(left_s) else max(left_s, LEAST_S)

    def after_break(self, error: Exception, *, connected: bool) -> float:
        """Return the seconds to wait before trying again. `connected`: the server may have had the request.

        Raises:
            ServerUnreachable: it is not tried again.
        """
        wait_s = pause_s(self.made, None, self._chance)
        if not self._may(self._policy.idempotent or not connected, wait_s):
            raise broken(error, self.made) from error
        return wait_s

    def after_refusal(self, refused: AnswerError) -> float:
        """Return the seconds to wait before trying again.

        Raises:
            AnswerError: it is not tried again.
        """
        status = refused.status_code
        wait_s = pause_s(self.made, refused.retry_after_s, self._chance)
        if not self._may(status == 429 or (status in AGAIN and self._policy.idempotent), wait_s):
            raise refused
        return wait_s

    def _may(self, allowed: bool, wait_s: float) -> bool:
        in_time = time.monotonic() + wait_s < self._until_s
        return allowed and in_time and self.made <= self._policy.retries


def pause_s(attempts: int, asked_s: float | None, chance: random.Random) -> float:
    """Return the seconds to wait before the next attempt.

    Args:
        attempts: Made so far, >= 1.
        asked_s: The server's Retry-After; None: it did not say, and the pause doubles each time.
        chance: Spreads clients that were refused together over a fifth more, as they would come together again.
    """
    wait_s = FIRST_S * 2 ** (attempts - 1) if asked_s is None else asked_s
    return min(wait_s, LONGEST_S) * (1 + 0.2 * chance.random())
