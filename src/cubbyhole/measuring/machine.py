# SPDX-License-Identifier: Apache-2.0
"""On what a figure was measured; it stands in every result file.

Flow:  cli/bench.py, bench/machine.py -> **describe_machine** -> the result
Owns:  nothing. Standard library only.
"""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith(("model name", "Model")):
            return line.partition(":")[2].strip()
    return platform.machine()


def describe_machine() -> dict[str, Any]:
    """Return processor, cores, memory, kernel, Python and how busy the machine is now."""
    memory_kib = int(Path("/proc/meminfo").read_text().split()[1])
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory_kib / 2**20, 1),
        "kernel": platform.release(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "load_average_at_start": round(os.getloadavg()[0], 2),
    }
