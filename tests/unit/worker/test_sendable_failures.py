# SPDX-License-Identifier: Apache-2.0
"""Whatever user code raises, and whatever of a client's is in it, becomes a record that can be sent: else the worker would end."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from cubbyhole.core.entries import Failure
from cubbyhole.core.errors import HTTPError
from cubbyhole.worker.failures import failure_of

HUGE = 10**30


@pytest.mark.parametrize(
    ("error", "detail"),
    [
        (HTTPError(422, [{"input": HUGE, "loc": ["body"]}]), [{"input": str(HUGE), "loc": ["body"]}]),
        (HTTPError(400, -HUGE), str(-HUGE)),
        (HTTPError(400, "a\ud800b"), "a\\ud800b"),
        (HTTPError(400, {"\ud800": ["\udfff", 1.5, None]}), {"\\ud800": ["\\udfff", 1.5, None]}),
        (HTTPError(400, "why", {"x-why": "\ud800"}), "why"),
        (ValueError("the name \ud800 is unknown"), "Internal server error"),
        (KeyError("\ud800"), "Internal server error"),
    ],
    ids=lambda value: ascii(value)[:40],
)  # fmt: skip
def test_a_failure_can_be_sent_whatever_is_in_it(error: Exception, detail: Any) -> None:
    sent = msgspec.msgpack.encode(failure_of(error))
    got = msgspec.msgpack.decode(sent, type=Failure)
    assert got.detail == detail
    msgspec.json.encode({"detail": got.detail})
