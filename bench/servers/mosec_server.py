# SPDX-License-Identifier: Apache-2.0
"""mosec with its defaults: JSON `Worker`s, raw bytes by own `serialize`/`deserialize`, `SSEWorker` for streams."""

from __future__ import annotations

import os
import sys
import time
from typing import Any

from mosec import Server, SSEWorker, Worker


class Noop(Worker):
    def forward(self, data: Any) -> Any:
        return {"output": data["input"] * data["input"]}


class Sleep(Worker):
    def forward(self, data: Any) -> Any:
        time.sleep(0.005)
        return {"output": data["input"] * data["input"]}


class Batch(Worker):
    def forward(self, data: Any) -> Any:
        time.sleep(0.010)
        return [{"output": item["input"] * item["input"]} for item in data]


class Raw(Worker):
    resp_mime_type = "application/octet-stream"

    def deserialize(self, data: bytes) -> Any:
        import numpy as np

        return np.frombuffer(data, np.float32)

    def forward(self, data: Any) -> Any:
        return 2 * data

    def serialize(self, data: Any) -> bytes:
        return data.tobytes()


class Stream(SSEWorker):
    def forward(self, data: Any) -> Any:
        for i in range(100):
            self.send_stream_event(f"{int(data['input']) * 100 + i:05d} ", index=0)
        return data


WORKERS = {
    "noop": (Noop, {}),
    "sleep": (Sleep, {"num": 4}),
    "batch": (Batch, {"max_batch_size": 32, "max_wait_time": 5}),
    "raw": (Raw, {}),
    "stream": (Stream, {}),
    "overload": (Sleep, {}),
}

if __name__ == "__main__":
    workload, port = sys.argv[1], sys.argv[2]
    sys.argv = [sys.argv[0], "--port", port, "--address", "127.0.0.1"]
    if workload == "overload":
        sys.argv += ["--capacity", os.environ["BENCH_QUEUE"]]
    worker, options = WORKERS[workload]
    server = Server()
    server.append_worker(worker, **options)
    server.run()
