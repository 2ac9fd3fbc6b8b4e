# SPDX-License-Identifier: Apache-2.0
"""The server of test_grpc.py."""

from __future__ import annotations

import os
import time
from typing import Any

from oip_apis import DATATYPES, same

import cubbyhole as ls
from cubbyhole.core.errors import HTTPError

REFUSALS = {2: 422, 4: 403, 5: 500}


class Watched(ls.LitAPI):
    """Fails, or waits until nobody waits for it, as its input says."""

    seen: int

    def setup(self, device: str) -> None:
        """Have a place to count."""
        self.seen = 0

    def predict(self, x: dict[str, Any], cancelled: Any) -> dict[str, Any]:
        """Do what the first number says: 1 waits, 2, 4 and 5 refuse, 3 dies, others give what was seen."""
        (array,) = x.values()
        wish = int(array.ravel()[0])
        if wish in REFUSALS:
            raise HTTPError(REFUSALS[wish], "as you wish")
        if wish == 3:
            os._exit(7)
        until_s = time.monotonic() + 20
        while wish == 1 and not cancelled() and time.monotonic() < until_s:
            time.sleep(0.005)
        self.seen += wish == 1 and cancelled()
        return {"y": array * 0 + self.seen}


def make_server() -> ls.LitServer:
    """Build it."""
    tensor = ("float32", [-1, 2])
    watched = Watched(spec=ls.OIPSpec("watched", {"x": tensor}, {"y": tensor}, version="3"))
    return ls.LitServer([*map(same, DATATYPES), watched], grpc_port=int(os.environ["GRPC_PORT"]))


def make_small_server() -> ls.LitServer:
    """Build one with one model."""
    return ls.LitServer(same("FP32"), grpc_port=int(os.environ["GRPC_PORT"]))
