# SPDX-License-Identifier: Apache-2.0
"""Who holds which block of a running server's segment: for the day on which something stays held.

    python -m tests.chaos.holders PID      # of any process of the server

Reads the memory file by the map of `_native/cbh_layout.h`; takes nothing and locks nobody.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import struct
import sys
from pathlib import Path

MAGIC = 0x454C4F4859424255
HEAD = struct.Struct("<QII7QII8Q")
BLOCK_SHIFT, EXTENT_SHIFT, CLASSES, RUN = 8, 20, 11, 0xF0
PLACES = 62


def held_blocks(pid: int) -> list[str]:
    """Return one line for each block that somebody holds."""
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError, ValueError):
            if "memfd:" not in str(link.readlink()):
                continue
            with link.open("rb") as file, _mapped(file.fileno()) as memory:
                if struct.unpack_from("<Q", memory)[0] == MAGIC:
                    return _held(memory)
    return ["no segment found"]


def _mapped(fd: int) -> mmap.mmap:
    return mmap.mmap(fd, os.fstat(fd).st_size, mmap.MAP_SHARED, mmap.PROT_READ)


def _held(memory: mmap.mmap) -> list[str]:
    fields = HEAD.unpack_from(memory)
    extents_at, holders_at, arena_at, extents = fields[5], fields[6], fields[8], fields[11]
    fronts = fields[12]
    found = []
    for extent in range(extents):
        (word,) = struct.unpack_from("<Q", memory, extents_at + 8 * extent)
        kind = word & 0xFF
        if not (1 <= kind <= CLASSES or kind == RUN):
            continue
        size = word >> 32 << EXTENT_SHIFT if kind == RUN else 1 << (BLOCK_SHIFT + kind - 1)
        count = 1 if kind == RUN else (1 << EXTENT_SHIFT) // size
        base = holders_at + extent * (1 << (EXTENT_SHIFT - BLOCK_SHIFT)) * 8
        for index, bits in enumerate(struct.unpack_from(f"<{count}Q", memory, base)):
            if bits:
                at = arena_at + (extent << EXTENT_SHIFT) + index * size
                places = [n for n in range(64) if bits >> n & 1]
                who = ", ".join(_name(n, fronts) for n in places)
                owner = _name((word >> 8 & 0xFF) - 1, fronts)
                found.append(
                    f"{size} bytes at {at:#x} of {owner}, held by {who}: {memory[at : at + 96]!r}"
                )
    return found


def _name(place: int, fronts: int) -> str:
    if place >= PLACES:
        return f"bit {place}"
    return f"front {place}" if place < fronts else f"worker {place - fronts}"


if __name__ == "__main__":
    print("\n".join(held_blocks(int(sys.argv[1]))))  # noqa: T201  a command line
