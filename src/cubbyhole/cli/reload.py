# SPDX-License-Identifier: Apache-2.0
"""`cubbyhole serve --reload`: run the same command without it in a child, and anew after each change of a .py file.

For development: the port is free between two runs, so a request in that gap is refused.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

STOP_S = 40.0  # longer than a drain takes


def run_reloading(target: str) -> int:
    """Watch the target's folder (for a module: the current one) until SIGTERM or Ctrl-C; returns the exit code."""
    from watchfiles import PythonFilter, watch

    place = Path(target.partition(":")[0])
    folder = place.resolve().parent if place.suffix == ".py" else Path.cwd()
    command = [
        sys.executable,
        "-m",
        "cubbyhole",
        *(word for word in sys.argv[1:] if word != "--reload"),
    ]
    # The server drains at the end of this pipe: killing the watcher leaves none behind.
    line, _held = os.pipe()

    def start() -> subprocess.Popen[bytes]:
        environment = {**os.environ, "CUBBYHOLE_PARENT_FD": str(line)}
        return subprocess.Popen(command, pass_fds=[line], env=environment)

    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    child = start()
    try:
        for changes in watch(
            folder, watch_filter=PythonFilter(), stop_event=stopped, raise_interrupt=False
        ):
            names = ", ".join(sorted({Path(path).name for _, path in changes}))
            print(f"cubbyhole: {names} changed, starting again", file=sys.stderr, flush=True)
            _stop(child)
            child = start()
    finally:
        code = _stop(child)
    return max(code, 0)


def _stop(child: subprocess.Popen[bytes]) -> int:
    if child.poll() is None:
        child.terminate()
    try:
        return child.wait(STOP_S)
    except subprocess.TimeoutExpired:
        child.kill()  # its children end with it: their life line is cut
        return child.wait()
