# SPDX-License-Identifier: Apache-2.0
"""LitAPIs for worker processes in tests: spawned children import them from here."""

from __future__ import annotations

import os
import sys
import time
from typing import Any

from cubbyhole.api.callbacks import Callback
from cubbyhole.api.lit_api import LitAPI

HEAVY = ("fastapi", "starlette", "uvicorn", "typer", "rich", "pydantic", "asyncio", "numpy")


class Telling(LitAPI):
    """Answers what it finds in its process."""

    def setup(self, device: Any) -> None:
        self.in_setup = [device, self.device]

    def predict(self, x: Any) -> Any:
        if x == "sleep":
            time.sleep(1.0)
            return "slept"
        if x == "hang":
            time.sleep(3600)
        if x == "die":
            os._exit(9)
        return {
            "setup": repr(self.in_setup),
            "device": self.device,
            "number": os.environ["LITSERVE_WORKER_ID"],
            "pid": os.getpid(),
            "heavy": " ".join(name for name in HEAVY if name in sys.modules),
        }


class Broken(LitAPI):
    def setup(self, device: Any) -> None:
        raise RuntimeError("no weights here")


class Steady(LitAPI):
    """Batches of 10 ms each."""

    def predict(self, x: Any) -> Any:
        time.sleep(0.010)
        return x


class Marking(Callback):
    def on_after_setup(self, *args: Any, **kwargs: Any) -> None:
        kwargs["lit_api"].in_setup.append("after")
