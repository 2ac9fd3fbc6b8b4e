# SPDX-License-Identifier: Apache-2.0
"""x -> 2x over the Open Inference Protocol, with MLServer's defaults.

Over HTTP it reads and writes tensors as JSON only: to a request with binary tensors it answers 500.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from pathlib import Path

MODEL = """
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class Double(MLModel):
    async def load(self):
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        x = NumpyCodec.decode_input(payload.inputs[0])
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output("y", 2 * x)])
"""

if __name__ == "__main__":
    port = int(sys.argv[2])
    Path("double.py").write_text(MODEL)
    with socket.socket() as one, socket.socket() as other:
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        settings = {"http_port": port, "grpc_port": one.getsockname()[1]}
        settings["metrics_port"] = other.getsockname()[1]
    Path("settings.json").write_text(json.dumps({"host": "127.0.0.1", "debug": False, **settings}))
    Path("model-settings.json").write_text(
        json.dumps({"name": "double", "implementation": "double.Double"})
    )
    program = str(Path(sys.executable).with_name("mlserver"))
    os.execv(program, [program, "start", "."])  # noqa: S606
