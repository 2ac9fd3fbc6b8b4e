# SPDX-License-Identifier: Apache-2.0
"""Servers for the tests of operators, cancellation and scaling: `cubbyhole serve operated.py:NAME`."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cubbyhole as ls

if TYPE_CHECKING:
    from collections.abc import Callable

PAUSE_S = 0.005
CHANNEL = os.environ.get("TEST_CHANNEL", "shm")


class Watching(ls.LitAPI):
    """Squares; where a request asks for it, it waits for a file, or until it is cancelled, or goes on without looking."""

    def setup(self, device: str) -> None:
        """Begin to count."""
        self.number = 0

    def predict(self, x: dict[str, Any], cancelled: Callable[[], bool]) -> dict[str, Any]:
        """Do what `x` says."""
        self.number += 1
        if "begun" in x:
            Path(x["begun"]).touch()
        while "until" in x and not Path(x["until"]).exists():
            time.sleep(PAUSE_S)
        if "until_cancelled" in x:
            while not cancelled():
                time.sleep(PAUSE_S)
            Path(x["until_cancelled"]).touch()
        time.sleep(x.get("sleep_s", 0))
        return {"output": x["input"] ** 2, "number": self.number, "pid": os.getpid()}


def watching(**options: Any) -> ls.LitServer:
    """Squares."""
    return ls.LitServer(Watching(), accelerator="cpu", channel=CHANNEL, **options)
