# SPDX-License-Identifier: Apache-2.0
"""APIs for test_client.py, importable by spawned workers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import HTTPException

import cubbyhole as ls

if TYPE_CHECKING:
    from collections.abc import Iterator


class Echo(ls.LitAPI):
    """Gives back what it gets, or fails as it is told."""

    def predict(self, x: Any) -> Any:
        """Do what `x` says."""
        if isinstance(x, dict) and "fail" in x:
            raise HTTPException(x["fail"], "as you wish")
        return x


class Counting(ls.LitAPI):
    """One JSON line for each number below the input."""

    def predict(self, x: int) -> Iterator[int]:
        """Count."""
        yield from range(x)

    def encode_response(self, output: Iterator[int]) -> Iterator[dict[str, int]]:
        """Give a line for each."""
        for number in output:
            yield {"number": number}


class FailingLater(Counting):
    """Counts, and fails."""

    def predict(self, x: int) -> Iterator[int]:
        """Count, then raise."""
        yield from range(x)
        raise ValueError("later")
