# SPDX-License-Identifier: Apache-2.0
"""What the kernel says of a process: its state in a word, its CPU time and its memory.

Flow:  /proc/<pid>/stat -> **process_word**, **read_usage** -> cli, inspector
Owns:  nothing.
"""

from __future__ import annotations

import os

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
_TICKS_PER_S, _PAGE_BYTES = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
_STAT_BYTES = 2048  # 52 numbers and a name of 64 bytes at most


class Usage(msgspec.Struct, frozen=True):
    """CPU seconds since the process began, and bytes in memory, shared ones included."""

    word: str
    cpu_s: float
    resident_bytes: int


def read_usage(pid: int) -> Usage | None:
    """Return what the kernel counts for a process; None: there is none."""
    try:  # without a file object: whoever looks does this several times a second, and between two looks the caches forget its code
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY)
    except OSError:
        return None
    try:
        text = os.read(fd, _STAT_BYTES)
    except OSError:  # it ended between the two
        return None
    finally:
        os.close(fd)
    fields = text.rpartition(b")")[2].split()  # the name before it may hold anything
    ticks = int(fields[_USER_TICKS]) + int(fields[_SYSTEM_TICKS])
    letter = fields[0].decode()
    resident_bytes = int(fields[_RESIDENT_PAGES]) * _PAGE_BYTES
    return Usage(_WORDS.get(letter, letter), ticks / _TICKS_PER_S, resident_bytes)


def is_there(pid: int) -> bool:
    """Return whether a process exists; a dead one that nobody waited for does."""
    return os.path.exists(f"/proc/{pid}")  # noqa: PTH110  (as above)


def process_word(pid: int) -> str:
    """Return a process's state in a word: "running", "sleeping", "stopped", "dead", ..."""
    usage = read_usage(pid)
    return "dead" if usage is None else usage.word
