# SPDX-License-Identifier: Apache-2.0
"""Saying no at once: what a client gets when an entry finds no place.

A queue without an end only moves the failure to the client's own timeout, after the work was paid for. So the place in the channel
is the ticket: with one, a request is served within its deadline; without, it is told when to come again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cubbyhole.core.entries import Failure
from cubbyhole.core.errors import ChannelFull

if TYPE_CHECKING:
    from cubbyhole.core.errors import CubbyholeError

RETRY_AFTER_S = 1  # the smallest value of the header; slots turn over in milliseconds to seconds

OVERLOADED = Failure(
    "channel_full",
    503,
    "The server is at its limit of requests in flight. Try again later.",
    {"Retry-After": str(RETRY_AFTER_S)},
)


def refusal(error: CubbyholeError) -> Failure:
    """Return the answer for an entry that the channel or the intake did not take."""
    if isinstance(error, ChannelFull):
        return OVERLOADED
    headers = {"Retry-After": str(RETRY_AFTER_S)} if error.status == 503 else {}
    detail = "Internal server error" if error.status >= 500 and error.status != 503 else str(error)
    return Failure(error.code, error.status, detail, headers, message=str(error))
