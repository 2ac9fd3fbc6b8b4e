# SPDX-License-Identifier: Apache-2.0
"""The no-op of cubbyhole_server.py, by `cubbyhole serve`, with whatever of its options the words after the port say."""

from __future__ import annotations

import os
import sys
from pathlib import Path

if __name__ == "__main__":
    target = f"{Path(__file__).with_name('cubbyhole_server.py')}:Noop"
    command = ["-m", "cubbyhole", "serve", target, "--port", sys.argv[2], *sys.argv[3:]]
    os.execv(sys.executable, [sys.executable, *command])  # noqa: S606  (the same process, so that its pid is the server's)
