# SPDX-License-Identifier: Apache-2.0
"""Cubbyhole with its defaults, LitServe's API as it stands; a third argument names a channel, e.g. `sockets`.

Raw arrays: `decode_request` asks for the body as a view of the segment, and the answer is the model's array as it is.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any

import cubbyhole as ls


class Noop(ls.LitAPI):
    def setup(self, device: str) -> None:
        pass

    def decode_request(self, request) -> float:  # noqa: ANN001  (as LitServe's documentation writes it)
        return request["input"]

    def predict(self, x: float) -> float:
        return x * x

    def encode_response(self, output: float) -> dict:
        return {"output": output}


class Sleep(Noop):
    def predict(self, x: float) -> float:
        time.sleep(0.005)
        return x * x


class Batch(Noop):
    def batch(self, inputs: list) -> list:
        return inputs

    def predict(self, inputs: list) -> list:
        time.sleep(0.010)
        return [x * x for x in inputs]

    def unbatch(self, output: list) -> list:
        return output


class Raw(Noop):
    def decode_request(self, request: memoryview) -> Any:
        import numpy as np

        return np.frombuffer(request, np.float32)

    def predict(self, x: Any) -> Any:
        return 2 * x

    def encode_response(self, output: Any) -> Any:
        return ls.Response(memoryview(output).cast("B"), media_type="application/octet-stream")


class Stream(Noop):
    def predict(self, x: float) -> Any:
        for i in range(100):
            yield f"{int(x) * 100 + i:05d}\n"

    def encode_response(self, output: Any) -> Any:
        yield from output


APIS = {
    "noop": (Noop, {}),
    "sleep": (Sleep, {}),
    "batch": (Batch, {"max_batch_size": 32, "batch_timeout": 0.005}),
    "raw": (Raw, {}),
    "stream": (Stream, {"stream": True}),
    "overload": (Sleep, {}),
}

if __name__ == "__main__":
    workload, port = sys.argv[1], int(sys.argv[2])
    ours: dict[str, Any] = {"channel": sys.argv[3]} if sys.argv[3:] else {}
    if workload == "overload":
        ours["max_queue"] = int(os.environ["BENCH_QUEUE"])
    api, options = APIS[workload]
    server = ls.LitServer(
        api(**options),
        accelerator="cpu",
        workers_per_device=4 if workload == "sleep" else 1,
        **ours,
    )
    server.run(host="127.0.0.1", port=port, generate_client_file=False)
