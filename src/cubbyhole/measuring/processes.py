# SPDX-License-Identifier: Apache-2.0
"""What a tree of processes costs, from /proc: CPU by each process's clock, memory as PSS.

CPU is read from the process's own CPU clock (nanoseconds, threads that ended included), not from
`utime`+`stime` in /proc, whose ticks of 10 ms are coarser than an idle server's use in a second.
PSS shares a page fairly among the processes that map it, so it can be summed.

Flow:  channel_run.py -> **CpuMeter**; jobs.py -> **end_tree**; bench/ -> the rest
Owns:  nothing. Standard library only.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

_PROC = Path("/proc")


def _stat(pid: int) -> list[str] | None:
    try:
        text = (_PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    # state ppid pgrp session ...: the command before it may hold spaces and brackets
    return text[text.rindex(")") + 2 :].split()


def tree(root: int) -> list[int]:
    """Return `root` and all that descends from it or shares its session, orphans included."""
    parents: dict[int, int] = {}
    members = {root}
    for name in (path.name for path in _PROC.iterdir()):
        if name.isdigit() and (fields := _stat(int(name))) and fields[0] != "Z":
            parents[int(name)] = int(fields[1])
            if int(fields[3]) == root:
                members.add(int(name))
    grown = True
    while grown:
        new = {pid for pid, parent in parents.items() if parent in members} - members
        members |= new
        grown = bool(new)
    return sorted(pid for pid in members if pid in parents)


def cpu_s(pid: int) -> float:
    """Return the CPU seconds that a process has used so far; 0 if it is gone."""
    with contextlib.suppress(OSError):
        return time.clock_gettime(((~pid) << 3) | 2)  # MAKE_PROCESS_CPUCLOCK(pid, CPUCLOCK_SCHED)
    return 0.0


def cpu_by_process_s(root: int) -> dict[int, float]:
    """Return the CPU seconds of each process of a tree."""
    return {pid: cpu_s(pid) for pid in tree(root)}


class CpuMeter:
    """What a message costs each process of this process's tree, from here on: the front is this process."""

    def __init__(self, workers: list[int]) -> None:
        self._workers = set(workers)
        self._before = cpu_by_process_s(os.getpid())

    def per_message_us(self, count: int) -> dict[str, float]:
        """Return `cpu_us` and, of it, the front's, the workers' and all others' (a manager's process), for each of `count` messages."""
        after = cpu_by_process_s(os.getpid())
        spent = dict.fromkeys(("cpu_us", "front_cpu_us", "worker_cpu_us", "other_cpu_us"), 0.0)
        for pid, total_s in after.items():
            role = "worker" if pid in self._workers else "other"
            name = "front_cpu_us" if pid == os.getpid() else f"{role}_cpu_us"
            used_us = 1e6 * (total_s - self._before.get(pid, 0.0)) / max(count, 1)
            spent[name] += used_us
            spent["cpu_us"] += used_us
        return spent


def memory_mib(root: int) -> tuple[float, float]:
    """Return (PSS, RSS) of a tree, in MiB."""
    pss = rss = 0
    for pid in tree(root):
        with contextlib.suppress(OSError):
            for line in (_PROC / str(pid) / "smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    pss += int(line.split()[1])
                elif line.startswith("Rss:"):
                    rss += int(line.split()[1])
    return pss / 1024, rss / 1024


def machine_busy_s() -> float:
    """Return the CPU seconds that all of the machine has used so far, steal included."""
    fields = [int(field) for field in (_PROC / "stat").read_text().split("\n", 1)[0].split()[1:9]]
    user, nice, system, _idle, _iowait, irq, softirq, steal = fields
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def describe(pid: int) -> str:
    """Return a process's name for a table: its title's last part."""
    try:
        words = (_PROC / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return "?"
    return words.strip()[-60:]


def end_tree(root: int, grace_s: float = 3.0) -> None:
    """End a server and whatever it leaves: SIGTERM to its root, then SIGKILL to every process of the tree."""
    members = tree(root)
    births = {pid: fields[19] for pid in members if (fields := _stat(pid))}

    def alive() -> list[int]:
        return [
            pid
            for pid, birth in births.items()
            if (fields := _stat(pid)) and fields[19] == birth and fields[0] != "Z"
        ]

    with contextlib.suppress(ProcessLookupError):
        os.kill(root, signal.SIGTERM)
    deadline = time.monotonic() + grace_s
    while alive() and time.monotonic() < deadline:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(root, os.WNOHANG)
        time.sleep(0.02)
    left = alive()
    # multiprocessing's resource trackers go last: they remove what killed processes leave in /dev/shm.
    trackers = [pid for pid in left if "resource_tracker" in describe(pid)]
    for pid in [pid for pid in left if pid not in trackers]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 1.0
    while alive() and time.monotonic() < deadline:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(root, os.WNOHANG)
        time.sleep(0.02)
    for pid in alive():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
