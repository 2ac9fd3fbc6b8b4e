# SPDX-License-Identifier: Apache-2.0
"""A server such as a small studio might run, with models that only take time: what the inspector's picture shows."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Any

import cubbyhole as ls

if TYPE_CHECKING:
    from collections.abc import Iterator

PROSE = (
    "the harbour was quiet that morning and the boats lay still while the fog came in from the sea and hid the "
    "lamps one after another until only the bell of the old church could be heard across the water"
)


class Classify(ls.LitAPI):
    """Fast: some 20 ms each; fails where a request has no image."""

    def predict(self, x: dict[str, Any]) -> dict[str, Any]:
        """Take a while."""
        time.sleep(random.lognormvariate(-4.1, 0.35))
        return {"label": "heron", "of": x["image"], "score": 0.93}


class Summarize(ls.LitAPI):
    """A stream of words."""

    def predict(self, x: dict[str, Any]) -> Iterator[str]:
        """Give one word after another."""
        for word in PROSE.split()[: x["words"]]:
            time.sleep(random.uniform(0.02, 0.07))
            yield word

    def encode_response(self, output: Iterator[str]) -> Iterator[dict[str, str]]:
        """Give each as JSON."""
        for word in output:
            yield {"word": word}


class Transcribe(ls.LitAPI):
    """Slow: half a second to two."""

    def predict(self, x: dict[str, Any]) -> dict[str, Any]:
        """Take a while."""
        time.sleep(min(1.8, random.lognormvariate(-0.6, 0.4)))
        return {"text": PROSE, "minutes": x["minutes"]}


def make_server() -> ls.LitServer:
    """Build it."""
    return ls.LitServer(
        [
            Classify(api_path="/classify"),
            Summarize(api_path="/summarize", stream=True),
            Transcribe(api_path="/transcribe"),
        ],
        accelerator="cpu",
        workers_per_device={"/classify": 2, "/summarize": 2, "/transcribe": 3},
        timeout=60,
        priorities=True,
        inspector_payloads=True,
    )
