# SPDX-License-Identifier: Apache-2.0
"""Servers whose answers say in which order requests were run. Each function builds one: `cubbyhole serve order_apis.py:NAME`."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import cubbyhole as ls

CHANNEL = os.environ.get("TEST_CHANNEL", "shm")
ARENA_BYTES = 32 << 20


class Turns(ls.LitAPI):
    """Answers with the number of the run; {"begun": path, "until": path} holds the worker until a file is there."""

    def setup(self, device: str) -> None:
        """Begin to count."""
        self.turn = 0

    def predict(self, x: dict[str, Any]) -> dict[str, Any]:
        """Count, and wait if asked to."""
        hold(x)
        self.turn += 1
        return {"turn": self.turn, "batch": 1}


class Batches(Turns):
    """The same for batches: which one, and how large it was."""

    def predict(self, x: list[dict[str, Any]]) -> list[dict[str, Any]]:  # type: ignore[override]
        """Count batches."""
        for one in x:
            hold(one)
        self.turn += 1
        return [{"turn": self.turn, "batch": len(x)} for _ in x]


class Give(ls.LitAPI):
    """Gives so many bytes, after {"until": path}."""

    def predict(self, x: dict[str, Any]) -> bytes:
        """Wait, and give."""
        hold(x)
        return b"x" * int(x.get("size", 1))


def hold(x: dict[str, Any]) -> None:
    """Do as asked."""
    if "begun" in x:
        Path(x["begun"]).touch()
    while "until" in x and not Path(x["until"]).exists():
        time.sleep(0.005)


def with_counts(server: ls.LitServer) -> ls.LitServer:
    """Add GET /counts: what waits, and what the channel holds."""

    def counts() -> dict[str, int]:
        assert server.desk.place is not None
        now = server.desk.place.channel.statistics()
        return {"ready": now.ready, "bytes": now.arena_used_bytes, "slots": now.slots_used}

    server.app.add_api_route("/counts", counts)
    return server


def ranked() -> ls.LitServer:
    """Priorities."""
    return with_counts(
        ls.LitServer(Turns(), accelerator="cpu", channel=CHANNEL, timeout=60, priorities=True)
    )


def batches() -> ls.LitServer:
    """Priorities, in batches of three."""
    api = Batches(max_batch_size=3)
    return with_counts(
        ls.LitServer(api, accelerator="cpu", channel=CHANNEL, timeout=60, priorities=True)
    )


def shared() -> ls.LitServer:
    """Fair shares by API key."""
    return with_counts(
        ls.LitServer(Turns(), accelerator="cpu", channel=CHANNEL, timeout=60, fair_shares=True)
    )


def gives() -> ls.LitServer:
    """Answers of any size in a small arena, to clients that have a second and a half."""
    return with_counts(
        ls.LitServer(
            Give(), accelerator="cpu", channel=CHANNEL, arena_bytes=ARENA_BYTES, send_timeout=1.5
        )
    )
