# SPDX-License-Identifier: Apache-2.0
"""Processes that store, look up, keep and delete values that prove themselves, and are killed at random.

usage: python stress_dictionary.py SECONDS PROCESSES SEED    prints one line of JSON; exits 1 on the first wrong thing
"""

from __future__ import annotations

import gc
import json
import mmap
import os
import random
import signal
import sys
import time
import zlib
from typing import Any, NoReturn

import numpy as np

from cubbyhole import SharedDict
from cubbyhole.core.errors import SegmentFull

KEYS = 48
LARGEST_BYTES = 4 * 2**20
STUCK_S = 15.0  # without one operation; far beyond what two busy cores explain


def payload(rng: random.Random, number: int) -> np.ndarray[Any, Any]:
    """An array of 64 B to 4 MiB: its checksum, its number, then words that follow from it."""
    words = max(8, rng.randrange(1, 2 ** rng.randrange(4, 20)))
    array = np.arange(number, number + min(words, LARGEST_BYTES // 8), dtype="u8")
    array[0] = zlib.crc32(array[1:].tobytes())
    return array


def whole(array: np.ndarray[Any, Any]) -> bool:
    return array.nbytes >= 64 and int(array[0]) == zlib.crc32(array[1:].tobytes())


def act(d: SharedDict, rng: random.Random, kept: list[Any]) -> None:  # noqa: C901  one dice, many faces
    key, dice = f"k{rng.randrange(KEYS)}", rng.random()
    if dice < 0.3:
        try:
            d[key] = payload(rng, rng.randrange(2**32))
        except SegmentFull:
            kept.clear()
    elif dice < 0.4:
        fresh = payload(rng, rng.randrange(2**32))
        try:
            with d.reserve(key, shape=fresh.shape, dtype=fresh.dtype) as out:
                out[:] = fresh
        except SegmentFull:
            kept.clear()
    elif dice < 0.85:
        view = d.get(key)
        if view is not None:
            assert whole(view), f"{key} is torn"
            if len(kept) < 4:
                kept.append(view)
    elif dice < 0.93:
        d.pop(key, None)
    elif dice < 0.95:
        d.snapshot()
    elif kept:
        view = kept.pop(rng.randrange(len(kept)))
        assert whole(view), "a value that was looked at changed"


def work(d: SharedDict, beats: mmap.mmap, at: int, seed: int) -> NoReturn:
    rng = random.Random(seed)
    kept: list[Any] = []
    count = 0
    try:
        while True:
            act(d, rng, kept)
            count += 1
            beats[8 * at : 8 * at + 8] = count.to_bytes(8, "little")
    except BaseException:
        import traceback

        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)


class Herd:
    """Workers, killed and replaced."""

    def __init__(self, processes: int, seed: int) -> None:
        self.rng = random.Random(seed)
        self.d = SharedDict.create(bytes=2**27, buckets=8)
        self.beats = mmap.mmap(-1, 4096)
        self.pids = [0] * processes
        self.moved = [(b"", 0.0)] * processes
        self.operations = self.kills = 0

    def start(self, at: int) -> None:
        self.beats[8 * at : 8 * at + 8] = bytes(8)
        self.moved[at] = (bytes(8), time.monotonic())
        seed = self.rng.randrange(2**32)
        pid = os.fork()
        if pid == 0:
            work(self.d, self.beats, at, seed)
        self.pids[at] = pid

    def end(self, at: int) -> None:
        os.kill(self.pids[at], signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(self.pids[at], 0)[1])
        self.operations += int.from_bytes(self.beats[8 * at : 8 * at + 8], "little")
        if status != -signal.SIGKILL:
            sys.exit(1)  # it found something wrong, and said what
        self.kills += 1

    def look(self) -> None:
        for at in range(len(self.pids)):
            beat = self.beats[8 * at : 8 * at + 8]
            if beat != self.moved[at][0]:
                self.moved[at] = (beat, time.monotonic())
            elif time.monotonic() - self.moved[at][1] > STUCK_S:
                sys.exit(f"process {self.pids[at]} is stuck: nothing for {STUCK_S} s")

    def run(self, seconds: float) -> None:
        for at in range(len(self.pids)):
            self.start(at)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(self.rng.uniform(0.001, 0.03))
            at = self.rng.randrange(len(self.pids))
            self.end(at)
            self.start(at)
            self.look()
        for at in range(len(self.pids)):
            self.end(at)

    def check(self) -> dict[str, int]:
        self.d._reap_dead()
        for key, view in self.d.items():
            if not whole(view):
                sys.exit(f"{key} is torn at the end")
        view = None
        gc.collect()
        found = self.d.statistics()
        if found.used_blocks != found.keys or found.keys != len(list(self.d)):
            sys.exit(f"blocks are lost: {found}")
        self.d.clear()
        self.d["all of it"] = bytes(self.d.statistics().arena_bytes - 2**20)
        return {
            "operations": self.operations,
            "kills": self.kills,
            "keys": found.keys,
            "steals": found.steals,
            "mended": found.mended,
            "retries": found.retries,
        }


if __name__ == "__main__":
    herd = Herd(int(sys.argv[2]), int(sys.argv[3]))
    herd.run(float(sys.argv[1]))
    sys.stdout.write(json.dumps(herd.check()) + "\n")
