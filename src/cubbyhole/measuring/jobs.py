# SPDX-License-Identifier: Apache-2.0
"""A job in a process of its own: JSON in, JSON out, and nothing is left of it.

Flow:  channels.py, bench/*_command.py -> **job_in_process** -> `python -m MODULE` -> a dict or a list
Owns:  the process and all that descends from it, until it has answered.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cubbyhole.measuring.processes import end_tree

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Place:
    """Which python runs the jobs, with which environment and where; by default this one, here.

    Unless told otherwise a job does not import what happens to lie in the current folder (`-m` would).
    """

    python: str = sys.executable
    environment: Mapping[str, str] = field(
        default_factory=lambda: {**os.environ, "PYTHONSAFEPATH": "1"}
    )
    folder: str | None = None


def job_in_process(module: str, job: dict[str, Any], limit_s: float, place: Place) -> Any:
    """Give a module its job in a process of its own and return its answer; whatever it leaves is ended.

    Returns:
        What the process wrote, or `{"failures": 1, "example": why}`.
    """
    process = subprocess.Popen(
        [place.python, "-m", module],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=place.folder,
        env=place.environment,
        start_new_session=True,
    )
    try:
        out, err = process.communicate(json.dumps(job), timeout=limit_s)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = "", f"no end within {limit_s:.0f} s"
    finally:
        end_tree(process.pid)
        process.wait()
    if process.returncode or not out:
        last = err.strip().splitlines()[-1] if err.strip() else f"exit {process.returncode}"
        return {"failures": 1, "example": last[:500]}
    return json.loads(out)
