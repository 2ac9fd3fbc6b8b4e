# SPDX-License-Identifier: Apache-2.0
"""The server of test_doors.py: one model that is asked by HTTP, by gRPC and by handed memory."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np

import cubbyhole as ls

HOLD = 1.0  # as the first number: wait until the file is there


def hold(x: Any) -> None:
    """Say that it began, and wait."""
    if x.flat[0] == HOLD:
        Path(os.environ["DOORS_BEGUN"]).touch()
        until_s = time.monotonic() + 60
        while not Path(os.environ["DOORS_UNTIL"]).exists() and time.monotonic() < until_s:
            time.sleep(0.005)


class Held(ls.LitAPI):
    """By HTTP and handed over."""

    def decode_request(self, request: np.ndarray) -> Any:
        """Take it as it is."""
        return request

    def predict(self, x: Any) -> Any:
        """Say how many numbers came."""
        hold(x)
        return {"size": x.size}


class HeldTensor(ls.LitAPI):
    """By gRPC."""

    def predict(self, x: Any) -> Any:
        """Give one number back."""
        hold(x["x"])
        return {"y": np.zeros((1, 1), np.float32)}


def make_server() -> ls.LitServer:
    """Build it with the options that the test wants."""
    tensor = ("float32", [1, -1])
    held = HeldTensor(api_path="/held", spec=ls.OIPSpec("held", {"x": tensor}, {"y": tensor}))
    options = json.loads(os.environ["DOORS_OPTIONS"])
    port = int(os.environ["GRPC_PORT"])
    return ls.LitServer([Held(), held], handover=True, grpc_port=port, **options)
