# SPDX-License-Identifier: Apache-2.0
"""LitServe with its defaults; `fast` as third argument: `fast_queue=True` and a quiet log.

Raw arrays take the fastest route that its public surface has: `decode_request` with an annotated `bytes` body, and a
`Response` made in `encode_response`.
"""

import sys
import time
from typing import Annotated, Any

import litserve as ls
from fastapi import Body, Response


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
    def decode_request(
        self, request: Annotated[bytes, Body(media_type="application/octet-stream")]
    ) -> Any:
        import numpy as np

        return np.frombuffer(request, np.float32)

    def predict(self, x: Any) -> Any:
        return 2 * x

    def encode_response(self, output: Any) -> Response:
        return Response(output.tobytes(), media_type="application/octet-stream")


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
    "overload": (Sleep, {}),  # it has no option that bounds its queue
}

if __name__ == "__main__":
    workload, port = sys.argv[1], int(sys.argv[2])
    fast = "fast" in sys.argv[3:]
    api, options = APIS[workload]
    server = ls.LitServer(
        api(**options),
        accelerator="cpu",
        workers_per_device=4 if workload == "sleep" else 1,
        fast_queue=fast,
    )
    quiet = {"log_level": "warning"} if fast else {}
    server.run(host="127.0.0.1", port=port, generate_client_file=False, **quiet)
