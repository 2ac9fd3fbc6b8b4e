# SPDX-License-Identifier: Apache-2.0
"""On what and with what a figure was measured: machine, commit, command line. It stands in every result file."""

from __future__ import annotations

import datetime as dt
import json
import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from bench.venvs import HOME, ROOT

RESULTS = ROOT / "bench" / "results"


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith(("model name", "Model")):
            return line.partition(":")[2].strip()
    return platform.machine()


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def record(settings: dict[str, Any]) -> dict[str, Any]:
    """Describe this run; taken at its start."""
    memory_kib = int(Path("/proc/meminfo").read_text().split()[1])
    words = [f"{shlex.quote(word)}" for word in sys.argv[1:]]
    return {
        "at": dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds"),
        "machine": {
            "cpu": _cpu_model(),
            "cores": len(os.sched_getaffinity(0)),
            "memory_gib": round(memory_kib / 2**20, 1),
            "kernel": platform.release(),
            "system": platform.platform(),
            "python": platform.python_version(),
            "load_average_at_start": round(os.getloadavg()[0], 2),
        },
        "commit": _git("rev-parse", "HEAD"),
        "changed_files": len(_git("status", "--porcelain", "--untracked-files=no").splitlines()),
        "command": " ".join(["python", "-m", "bench", *words]),
        "settings": settings,
    }


def save(result: dict[str, Any], name: str) -> Path:
    """Write `bench/results/<name>.json`; what was only a look goes to `.bench/results/`."""
    home = HOME / "results" if name.endswith("-quick") else RESULTS
    path = home / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n")
    return path
