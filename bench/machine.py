# SPDX-License-Identifier: Apache-2.0
"""On what and with what a figure was measured: machine, commit, command line. It stands in every result file."""

from __future__ import annotations

import datetime as dt
import json
import shlex
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from bench.venvs import HOME, ROOT
from cubbyhole.measuring.machine import describe_machine

if TYPE_CHECKING:
    from pathlib import Path

RESULTS = ROOT / "bench" / "results"


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def record(settings: dict[str, Any]) -> dict[str, Any]:
    """Describe this run; taken at its start."""
    words = [f"{shlex.quote(word)}" for word in sys.argv[1:]]
    return {
        "at": dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds"),
        "machine": describe_machine(),
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
