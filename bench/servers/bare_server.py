# SPDX-License-Identifier: Apache-2.0
"""A bare ASGI handler under uvicorn with uvloop and httptools: the bound that no server on this stack can beat.

No isolation: the model runs on the event loop (batches in a thread). `sleep` has 4 server processes, each with its own
accept queue, so connections spread unevenly.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import uvicorn

if __name__ == "__main__":
    workload, port = sys.argv[1], int(sys.argv[2])
    os.environ["BENCH_WORKLOAD"] = workload
    uvicorn.run(
        "bare_app:app",
        app_dir=str(Path(__file__).parent),
        port=port,
        loop="uvloop",
        http="httptools",
        lifespan="off",
        access_log=False,
        log_level="warning",
        workers=4 if workload == "sleep" else None,
    )
