# SPDX-License-Identifier: Apache-2.0
"""Which devices workers run on: LitServe's `accelerator` and `devices`, and how many cores there are to use.

Flow:  server.py -> choose_accelerator -> list_devices -> EndpointSettings.workers;  wiring.py -> usable_cores
Owns:  nothing. Asks `nvidia-smi` and an already imported torch; never imports torch itself, which takes seconds.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ACCELERATORS = ("auto", "cpu", "cuda", "mps", "gpu")
SMI_TIMEOUT_S = 10.0  # a driver that hangs must not hang the server's start


def choose_accelerator(accelerator: str | None = "auto") -> str:
    """Return "cpu", "cuda" or "mps".

    Args:
        accelerator: "auto" (or None): a GPU only if torch is imported already, for a model without torch could not use
            it; "gpu": cuda, else mps; or the name itself. Any case.

    Raises:
        ValueError: another name.
    """
    wanted = "auto" if accelerator is None else accelerator
    name = wanted.lower() if isinstance(wanted, str) else wanted
    if name not in ACCELERATORS:
        raise ValueError(
            f"accelerator must be one of 'auto', 'cpu', 'mps', 'cuda', or 'gpu'. Found: {accelerator}"
        )
    if name == "gpu":
        return "cuda" if count_cuda_devices() else "mps"
    if name != "auto":
        return name
    if "torch" in sys.modules and count_cuda_devices():
        return "cuda"
    return "mps" if mps_available() else "cpu"


def list_devices(
    accelerator: str, devices: int | Sequence[int] | str = "auto"
) -> list[str] | list[list[str]]:
    """Return LitServe's `server.devices`: `["cpu"]`, or one inner list for each device, `[["cuda:0"], ["cuda:1"]]`.

    Args:
        accelerator: As `choose_accelerator` returns it.
        devices: How many, or which, or "auto" (all GPUs that are visible; one where there is no telling).

    Raises:
        ValueError: cuda or mps with something that is neither an integer nor a list.
    """
    if accelerator == "cpu":
        return ["cpu"]
    if devices == "auto":
        devices = count_cuda_devices() or 1 if accelerator == "cuda" else 1
    if isinstance(devices, int) and not isinstance(devices, bool):
        devices = range(devices)
    elif not isinstance(devices, (list, tuple)):
        raise ValueError(  # noqa: TRY004  LitServe's class and text
            f"devices must be an integer or a list of integers when using 'cuda' or 'mps', instead got {devices}"
        )
    return [[name] for name in device_identifiers(accelerator, devices)]


def device_identifiers(accelerator: str, devices: Sequence[int] | int) -> list[str]:
    """Return e.g. `["cuda:1", "cuda:2"]` for "cuda" and `[1, 2]`."""
    numbers = range(devices) if isinstance(devices, int) else devices
    return [f"{accelerator}:{number}" for number in numbers]


def count_cuda_devices(environ: Mapping[str, str] = os.environ) -> int:
    """Return how many GPUs `nvidia-smi -L` lists, as far as CUDA_VISIBLE_DEVICES lets them be seen; 0 without a driver."""
    listed = len(list_cuda_devices())
    visible = environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return listed
    count = 0
    for word in visible.split(","):
        word = word.strip()  # noqa: PLW2901
        if not word or word == "-1" or (word.isdigit() and int(word) >= listed):
            break  # CUDA itself stops at the first name that it does not know
        count += 1
    return min(count, listed)


def list_cuda_devices() -> list[str]:
    """Return the names of the GPUs, as `nvidia-smi -L` has them."""
    try:
        done = subprocess.run(
            ["nvidia-smi", "-L"], capture_output=True, text=True, timeout=SMI_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return []
    lines = done.stdout.splitlines() if done.returncode == 0 else []
    # A MIG instance is listed below its GPU and indented; torch counts GPUs.
    return [line for line in lines if line.startswith("GPU ")]


def mps_available() -> bool:
    """Return whether torch, if this process has imported it, can use Apple's GPU."""
    torch: Any = sys.modules.get("torch")
    if torch is None or platform.machine() not in ("arm", "arm64"):
        return False
    backends = getattr(torch, "backends", None)
    mps = getattr(backends, "mps", None)
    return bool(mps is not None and mps.is_available())


def usable_cores(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Return how many cores this process may keep busy: its affinity, and the container's CPU quota, rounded up."""
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    quota = cpu_quota(cgroup)
    return max(1, min(cores, -int(-quota // 1))) if quota else max(1, cores)


def cpu_quota(cgroup: Path = Path("/sys/fs/cgroup")) -> float | None:
    """Return the container's CPU quota in cores (cgroup v2, then v1); None: no limit."""
    try:
        quota, period = (cgroup / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota = (cgroup / "cpu/cpu.cfs_quota_us").read_text().strip()
            period = (cgroup / "cpu/cpu.cfs_period_us").read_text().strip()
        except OSError:
            return None
    if quota in ("max", "-1"):
        return None
    return int(quota) / int(period)
