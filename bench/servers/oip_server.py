# SPDX-License-Identifier: Apache-2.0
"""x -> 2x over the Open Inference Protocol, as raw bytes and handed over, with Cubbyhole: the output is written where it is sent from."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

import cubbyhole as ls


class Double(ls.LitAPI):
    def predict(self, x: Any, reserve: Any) -> Any:
        given = x["x"]
        return {"y": np.multiply(given, 2, out=reserve(given.shape, given.dtype))}


class DoubleBytes(ls.LitAPI):
    def decode_request(self, request: memoryview) -> Any:
        return np.frombuffer(request, np.float32)

    def predict(self, x: Any, reserve: Any) -> Any:
        return np.multiply(x, 2, out=reserve(x.shape, x.dtype))

    def encode_response(self, output: Any) -> Any:
        return memoryview(output)


class DoubleArray(ls.LitAPI):
    """Handed over: touches one number, so that what is measured is the way."""

    def decode_request(self, request: np.ndarray) -> Any:
        return request

    def predict(self, x: Any, reserve: Any) -> Any:
        y = reserve(x.shape, x.dtype)
        y[0] = 2 * x[0]
        return y


class Small(ls.LitAPI):
    def predict(self, x: Any) -> Any:
        return {"output": x["input"] * x["input"]}


class Upload(ls.LitAPI):
    def decode_request(self, request: memoryview) -> Any:
        return request

    def predict(self, x: Any) -> Any:
        return len(x)


def make(kind: str) -> ls.LitServer:
    tensor = ("float32", [1, -1])
    if kind == "oip":
        return ls.LitServer(Double(spec=ls.OIPSpec("double", {"x": tensor}, {"y": tensor})))
    if kind == "raw":
        return ls.LitServer(DoubleBytes())
    if kind == "handover":
        return ls.LitServer(DoubleArray(), handover=True)
    return ls.LitServer([Small(api_path="/predict"), Upload(api_path="/upload")])


if __name__ == "__main__":
    make(sys.argv[1]).run(port=int(sys.argv[2]), generate_client_file=False)
