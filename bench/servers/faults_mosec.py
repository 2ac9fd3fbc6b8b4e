# SPDX-License-Identifier: Apache-2.0
"""A server that does what a request asks for, also the worst: mosec."""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import Any

from mosec import Server, SSEWorker, Worker

LIMIT_BYTES = 1_000_000


def obey(request: dict[str, Any]) -> Any:
    """Do what it says."""
    time.sleep(request.get("sleep_s", 0))
    if request.get("do") == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if request.get("do") == "raise":
        raise ValueError("as asked")
    return {"output": request["input"] ** 2}


class Single(Worker):
    def forward(self, data: Any) -> Any:
        return obey(data)


class Batch(Worker):
    def forward(self, data: Any) -> Any:
        return [obey(one) for one in data]


class Stream(SSEWorker):
    def forward(self, data: Any) -> Any:
        for number in range(6):
            if number == 3 and data.get("do") == "raise":
                raise ValueError("as asked")
            self.send_stream_event(f"{number}", index=0)
        return data


if __name__ == "__main__":
    kind, port = sys.argv[1], sys.argv[2]
    sys.argv = [sys.argv[0], "--port", port, "--address", "127.0.0.1"]
    # Its own default is 3 s; the others have 30.
    sys.argv += ["--timeout", "2000" if kind == "hasty" else "30000"]
    if kind == "small":
        sys.argv += ["--max-request-size", str(LIMIT_BYTES)]
    server = Server()
    if kind == "batch":
        server.append_worker(Batch, max_batch_size=8, max_wait_time=300)
    else:
        server.append_worker(Stream if kind == "stream" else Single)
    server.run()
