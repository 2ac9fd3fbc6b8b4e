# SPDX-License-Identifier: Apache-2.0
"""FastAPI in one process, as people write it without a model server (4 processes for `sleep`)."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import uvicorn

if __name__ == "__main__":
    workload, port = sys.argv[1], int(sys.argv[2])
    os.environ["BENCH_WORKLOAD"] = workload
    uvicorn.run(
        "fastapi_app:app",
        app_dir=str(Path(__file__).parent),
        port=port,
        access_log=False,
        log_level="warning",
        workers=4 if workload == "sleep" else None,
    )
