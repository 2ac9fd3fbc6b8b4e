# SPDX-License-Identifier: Apache-2.0
"""What the kernel says of a process: its state in a word, its CPU time and its memory.

Flow:  /proc/<pid>/stat -> **process_word**, **read_usage** -> cli, inspector
Owns:  nothing.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

_WORDS = {
    "R": "running",
    "S": "sleeping",
    "D": "waits for a device",
    "T": "stopped",
    "t": "traced",
    "Z": "dead",
    "X": "dead",
}
_USER_TICKS, _SYSTEM_TICKS, _RESIDENT_PAGES = 11, 12, 21  # counted from the state, behind the name


class Usage(msgspec.Struct, frozen=True):
    """CPU seconds since the process began, and bytes in memory, shared ones included."""

    word: str
    cpu_s: float
    resident_bytes: int


def read_usage(pid: int) -> Usage | None:
    """Return what the kernel counts for a process; None: there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()  # the name before it may hold anything
    ticks = int(fields[_USER_TICKS]) + int(fields[_SYSTEM_TICKS])
    return Usage(
        _WORDS.get(fields[0], fields[0]),
        ticks / os.sysconf("SC_CLK_TCK"),
        int(fields[_RESIDENT_PAGES]) * os.sysconf("SC_PAGE_SIZE"),
    )


def process_word(pid: int) -> str:
    """Return a process's state in a word: "running", "sleeping", "stopped", "dead", ..."""
    usage = read_usage(pid)
    return "dead" if usage is None else usage.word
