# SPDX-License-Identifier: Apache-2.0
"""The APIs of `bench faults` for LitServe and Cubbyhole: the same classes, on whichever of the two is imported."""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import Any

ls: Any = sys.modules.get("litserve") or sys.modules.get("cubbyhole")
if ls is None:  # a worker that is spawned imports this file first
    try:
        import cubbyhole as ls
    except ImportError:
        import litserve as ls

LIMIT_BYTES = 1_000_000


def obey(request: dict[str, Any]) -> float:
    """Do what it says."""
    time.sleep(request.get("sleep_s", 0))
    if request.get("do") == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if request.get("do") == "raise":
        raise ValueError("as asked")
    return request["input"] ** 2


class Single(ls.LitAPI):
    def setup(self, device: str) -> None:
        pass

    def decode_request(self, request) -> dict:  # noqa: ANN001  (as LitServe's documentation writes it)
        return request

    def predict(self, x: Any) -> Any:
        return obey(x)

    def encode_response(self, output: Any) -> dict:
        return {"output": output}


class Batch(Single):
    def batch(self, inputs: list) -> list:
        return inputs

    def predict(self, x: list) -> list:
        return [obey(one) for one in x]

    def unbatch(self, output: list) -> list:
        return output


class Stream(Single):
    def predict(self, x: dict) -> Any:
        for number in range(6):
            if number == 3 and x.get("do") == "raise":
                raise ValueError("as asked")
            yield f"{number}\n"

    def encode_response(self, output: Any) -> Any:
        yield from output


def serve(litserve: Any, kind: str, port: int) -> None:
    """Run one of them; `hasty` gives a request two seconds, `small` takes a megabyte."""
    apis = {
        "batch": lambda: Batch(max_batch_size=8, batch_timeout=0.3),
        "stream": lambda: Stream(stream=True),
    }
    api = apis.get(kind, Single)()
    options: dict[str, Any] = {"accelerator": "cpu", "workers_per_device": 1}
    if kind == "hasty":
        options["timeout"] = 2
    if kind == "small":
        options["max_payload_size"] = LIMIT_BYTES
    server = litserve.LitServer(api, **options)
    server.run(host="127.0.0.1", port=port, generate_client_file=False)
