# SPDX-License-Identifier: Apache-2.0
"""The server whose page the tests open: two paths, one worker each."""

from __future__ import annotations

import time
from typing import Any

import cubbyhole as ls


class Slow(ls.LitAPI):
    """Sleeps and fails where a request asks for it."""

    def predict(self, x: dict[str, Any]) -> dict[str, Any]:
        """Do what `x` says."""
        if "fail" in x:
            raise ValueError(x["fail"])
        time.sleep(x.get("sleep_s", 0))
        return {"slept_s": x.get("sleep_s", 0)}


def make_server() -> ls.LitServer:
    """Build it."""
    return ls.LitServer(
        [Slow(api_path="/slow"), Slow(api_path="/other")],
        accelerator="cpu",
        timeout=60,
        inspector_payloads=True,
    )
