# SPDX-License-Identifier: Apache-2.0
"""What the tests with real processes look at: the process tree, requests in threads."""

from __future__ import annotations

import contextlib
import threading
import time
from pathlib import Path
from typing import Any

import httpx

SERVERS = Path(__file__).with_name("servers.py")


def descendants(pid: int) -> list[int]:
    """All processes below `pid` that live, from /proc."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            state, parent = state_of(int(entry.name))
            if state not in "ZX":
                parents[int(entry.name)] = parent
    found: list[int] = []
    for child, parent in parents.items():
        if parent == pid:
            found += [child, *descendants(child)]
    return found


def state_of(pid: int) -> tuple[str, int]:
    """A process's state letter and parent; "X" if there is none."""
    try:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return "X", 0
    return words[0], int(words[1])


def living(pids: list[int]) -> list[int]:
    """Those that exist and are no zombies."""
    return [pid for pid in pids if state_of(pid)[0] not in "ZX"]


def named_files(pids: list[int]) -> set[Path]:
    """The files in /dev/shm that these processes have open or mapped and that have a name; what could be left behind."""
    found: set[str] = set()
    for pid in pids:
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                found.add(str(link.readlink()))
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            found.add(line.partition("/")[1] + line.partition("/")[2])
    shared = "/dev/shm/"  # noqa: S108  looked at
    return {Path(name) for name in found if name.startswith(shared) and "(deleted)" not in name}


class Asking(threading.Thread):
    """One POST in a thread; `answer` and `ended_s` (perf_counter) are there after `join`."""

    def __init__(self, url: str, body: Any, timeout_s: float = 15.0) -> None:
        super().__init__(daemon=True)
        self.url = url
        self.body = body
        self.timeout_s = timeout_s
        self.answer: httpx.Response | None = None
        self.error: Exception | None = None
        self.ended_s = 0.0
        self.start()

    def run(self) -> None:
        """Ask on a connection of its own."""
        try:
            self.answer = httpx.post(self.url, json=self.body, timeout=self.timeout_s)
        except httpx.HTTPError as error:
            self.error = error
        self.ended_s = time.perf_counter()

    def result(self) -> httpx.Response:
        """Wait for the answer."""
        self.join(self.timeout_s + 1)
        if self.error is not None:
            raise self.error
        assert self.answer is not None, "no answer in time"
        return self.answer
