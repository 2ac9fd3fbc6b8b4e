# SPDX-License-Identifier: Apache-2.0
"""What all tests share: waiting without sleeping."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


def poll_until(condition: Callable[[], T], timeout_s: float = 10.0, every_s: float = 0.005) -> T:
    """Return the first truthy value of `condition`, or fail the test after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        if time.monotonic() > deadline:
            pytest.fail(
                f"still {value!r} after {timeout_s} s: {getattr(condition, '__doc__', None) or condition}"
            )
        time.sleep(every_s)
    return value


@pytest.fixture
def wait_until() -> Callable[..., T]:
    """`wait_until(condition, timeout_s=10.0)`: poll with a deadline instead of sleeping."""
    return poll_until
