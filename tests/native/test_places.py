# SPDX-License-Identifier: Apache-2.0
"""Who sits at a place is a pid and its start time: the pid alone comes again."""

from __future__ import annotations

import os
import struct

from cubbyhole._native import _entries, _segment

PLACES_AT = 4096  # cbh_segment.c: the page behind the header
LIVE = 2


def test_a_place_whose_pid_was_given_to_another_process_is_dead() -> None:
    body = _entries.body_bytes(1, 1, 64)
    fd = _segment.Segment.create(_segment.KIND_ENTRIES, body, 1 << 20, (1, 1, 1, 64))
    try:
        segment = _segment.Segment.attach(fd, _segment.KIND_ENTRIES)
        assert segment.take_place(1) == 1
        assert segment.alive(1)
        at = PLACES_AT + 192
        word, started = struct.unpack("=QQ", os.pread(fd, 16, at))
        assert (word >> 32 & 0xFF, word & 0xFFFFFFFF) == (LIVE, os.getpid())
        os.pwrite(fd, struct.pack("=Q", started - 1), at + 8)  # an earlier process of our number
        assert not segment.alive(1)
        other = _segment.Segment.attach(fd, _segment.KIND_ENTRIES)
        assert other.take_place(1) == 1  # reaped, then taken
        assert not segment.mine
        assert other.mine
        other.close()
    finally:
        os.close(fd)
