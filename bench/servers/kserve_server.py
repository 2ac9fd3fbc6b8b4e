# SPDX-License-Identifier: Apache-2.0
"""x -> 2x over the Open Inference Protocol, with KServe's Python server as its documentation has it."""

from __future__ import annotations

import sys
from typing import Any

from kserve import InferOutput, InferResponse, Model, ModelServer


class Double(Model):
    def __init__(self) -> None:
        super().__init__("double")
        self.ready = True

    def predict(self, payload: Any, headers: Any = None) -> Any:
        y = 2 * payload.inputs[0].as_numpy()
        output = InferOutput(name="y", shape=list(y.shape), datatype="FP32")
        output.set_data_from_numpy(y, binary_data=True)
        # The client's wish for raw outputs is not passed on by itself: without it the answer would be JSON.
        return InferResponse(
            payload.id or "1",
            "double",
            [output],
            use_binary_outputs=bool(payload.use_binary_outputs),
            requested_outputs=payload.request_outputs,
        )


if __name__ == "__main__":
    ModelServer(http_port=int(sys.argv[2]), enable_grpc=False, workers=1).start([Double()])
