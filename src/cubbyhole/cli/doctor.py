# SPDX-License-Identifier: Apache-2.0
"""`cubbyhole doctor`: what this machine gives, what is missing, what to do. Exit code 1 if something needed is missing."""

from __future__ import annotations

import os
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
import typer

if TYPE_CHECKING:
    from collections.abc import Callable

Verdict = Literal["ok", "warning", "missing"]

NEEDED = (
    "fastapi",
    "uvicorn",
    "msgspec",
    "numpy",
    "python-multipart",
    "typer",
    "rich",
    "prometheus-client",
)
FASTER = ("uvloop", "httptools")
FEW_DESCRIPTORS = 4096  # a connection takes one, a front several more
SMALL_MEMORY_BYTES = 2 << 30  # the default arena may grow to 1 GiB, beside the model


class Check(msgspec.Struct, frozen=True):
    """One line of the report."""

    name: str
    verdict: Verdict
    found: str
    advice: str = ""


def doctor(
    json: Annotated[
        bool, typer.Option("--json", help="Print a JSON list instead of a table.")
    ] = False,
) -> None:
    """Check this machine: versions, compiled core, memory, descriptors, cores, devices.

    Examples:
      cubbyhole doctor

      cubbyhole doctor --json | jq '.[] | select(.verdict != "ok")'
    """
    checks = examine()
    if json:
        print(msgspec.json.format(msgspec.json.encode(checks)).decode())
    else:
        _print_table(checks)
    if any(check.verdict == "missing" for check in checks):
        raise typer.Exit(1)


def examine() -> list[Check]:
    """Make all checks; takes well under a second without a GPU driver."""
    found: list[Check] = []
    for check in CHECKS:
        found.extend(check())
    return found


def check_python() -> list[Check]:
    """Python's version, and where it is; pip has refused anything before 3.10."""
    found = f"{platform.python_version()} ({sys.executable})"
    return [Check("python", "ok", found)]


def check_packages() -> list[Check]:
    """What must be installed, and what makes the HTTP side faster."""
    return [_check_package(name) for name in ("cubbyhole", *NEEDED, *FASTER)]


def _check_package(name: str) -> Check:
    try:
        return Check(name, "ok", metadata.version(name))
    except metadata.PackageNotFoundError:
        if name == "cubbyhole":
            return Check(name, "warning", "runs from a folder, not installed", "pip install .")
        if name in FASTER:
            advice = "HTTP is slower without it: pip install 'uvicorn[standard]'"
            return Check(name, "warning", "not installed", advice)
        return Check(name, "missing", "not installed", f"pip install {name}")


def check_channel() -> list[Check]:
    """Whether the default channel works here: made for real, and closed."""
    from cubbyhole.channels.base import ChannelSettings
    from cubbyhole.channels.registry import create_channel
    from cubbyhole.core.errors import CubbyholeError

    try:
        create_channel("shm", ChannelSettings(slots=8, arena_bytes=1 << 20)).close()
    except (CubbyholeError, ImportError, OSError) as error:
        advice = "The server falls back to channel 'sockets', which copies. Install a wheel, or a C compiler and pip install again."
        return [Check("native core", "warning", str(error), advice)]
    return [Check("native core", "ok", "channel 'shm' works")]


def check_kernel() -> list[Check]:
    """Anonymous shared memory and process descriptors."""
    found = [
        Check("system", "ok", f"{platform.system()} {platform.release()} {platform.machine()}")
    ]
    if hasattr(os, "memfd_create"):
        try:
            os.close(os.memfd_create("cubbyhole-doctor"))
            found.append(Check("memfd", "ok", "anonymous shared memory"))
        except OSError as error:
            advice = "The sandbox forbids memfd_create: allow it in its seccomp profile."
            found.append(Check("memfd", "missing", str(error), advice))
    elif sys.platform == "linux":
        advice = "This Python was built without memfd_create (Linux 3.17, glibc 2.27): use another build."
        found.append(Check("memfd", "missing", "not in this Python", advice))
    else:
        found.append(
            Check("memfd", "ok", "not on this system; shm_open is used, and unlinked at once")
        )
    shm = "/dev/shm"  # noqa: S108  looked at, never written
    size = f"{_gib(_free_bytes(shm))} free" if Path(shm).is_dir() else "none"
    found.append(Check(shm, "ok", f"{size}; not needed"))
    return found


def check_memory() -> list[Check]:
    """Memory of the machine and of the container."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = memory_limit_bytes()
    usable = min(total, limit or total)
    text = f"{_gib(total)}" + (
        f", container limit {_gib(limit)}" if limit else ", no container limit"
    )
    if usable < SMALL_MEMORY_BYTES:
        advice = "Little beside a model: LitServer(arena_bytes=...) bounds what requests may take (default 1 GiB)."
        return [Check("memory", "warning", text, advice)]
    return [Check("memory", "ok", text)]


def memory_limit_bytes(cgroup: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Return the container's memory limit (cgroup v2, then v1); None: no limit."""
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        try:
            text = (cgroup / name).read_text().strip()
        except OSError:
            continue
        if text.isdigit() and int(text) < 1 << 60:  # v1 says "no limit" by a huge number
            return int(text)
    return None


def check_descriptors() -> list[Check]:
    """How many connections a front can have open."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    text = f"{soft} (can be raised to {'any number' if hard == resource.RLIM_INFINITY else hard})"
    if soft != resource.RLIM_INFINITY and soft < FEW_DESCRIPTORS:
        advice = f"Each connection takes one: ulimit -n {FEW_DESCRIPTORS * 4} before the start, or LimitNOFILE= in systemd."
        return [Check("open files", "warning", text, advice)]
    return [Check("open files", "ok", text)]


def check_cores() -> list[Check]:
    """Cores that the server may use."""
    from cubbyhole.supervise.devices import cpu_quota, usable_cores

    quota = cpu_quota()
    limit = f", container quota {quota:g}" if quota else ""
    text = f"{usable_cores()} usable of {os.cpu_count()}{limit}"
    if usable_cores() == 1:
        advice = "Front and worker share one core; latency under load is better with two."
        return [Check("cores", "warning", text, advice)]
    return [Check("cores", "ok", text)]


def check_devices() -> list[Check]:
    """GPUs."""
    from cubbyhole.supervise.devices import count_cuda_devices, list_cuda_devices, mps_available

    listed = list_cuda_devices()
    if listed:
        hidden = len(listed) - count_cuda_devices()
        note = f" ({hidden} hidden by CUDA_VISIBLE_DEVICES)" if hidden else ""
        names = "; ".join(name.partition(" (UUID")[0] for name in listed)
        return [Check("devices", "ok", f"cuda: {names}{note}")]
    mps = mps_available() or (sys.platform == "darwin" and platform.machine() == "arm64")
    return [
        Check("devices", "ok", "mps (needs torch), cpu" if mps else "cpu; nvidia-smi lists no GPU")
    ]


CHECKS: tuple[Callable[[], list[Check]], ...] = (
    check_python,
    check_packages,
    check_channel,
    check_kernel,
    check_memory,
    check_descriptors,
    check_cores,
    check_devices,
)


def _print_table(checks: list[Check]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    styles = {"ok": "green", "warning": "yellow", "missing": "bold red"}
    table = Table(show_header=False, box=None, pad_edge=False)
    for check in checks:
        told = Text(check.found)
        if check.advice:
            told.append(f"\n{check.advice}", style="italic")
        table.add_row(Text(check.verdict, style=styles[check.verdict]), check.name, told)
    console = Console()
    console.print(table)
    missing = [check.name for check in checks if check.verdict == "missing"]
    console.print(
        f"\nNeeded and missing: {', '.join(missing)}." if missing else "\nReady to serve."
    )


def _free_bytes(path: str) -> int:
    status = os.statvfs(path)
    return status.f_bavail * status.f_frsize


def _gib(size_bytes: int) -> str:
    return f"{size_bytes / (1 << 30):.1f} GiB"
