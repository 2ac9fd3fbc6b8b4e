# SPDX-License-Identifier: Apache-2.0
"""Each refusal is an error of its own, with numbers and what to do."""

from __future__ import annotations

import gc
import os
import random
import signal
from contextlib import suppress

import numpy as np
import pytest

from cubbyhole import SharedDict
from cubbyhole._native._index import LONGEST_KEY_BYTES
from cubbyhole._native._segment import CODES
from cubbyhole.core.errors import (
    CubbyholeError,
    PlacesTaken,
    SegmentClosed,
    SegmentFull,
    UnknownType,
    ValueTooLarge,
    WrongLayout,
)
from cubbyhole.dictionary.refusals import _TELLERS

# ruff: noqa: PT012  (what is filled until it is full takes a loop)
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


def test_a_full_dictionary_says_so_and_has_room_again_after_a_delete() -> None:
    with SharedDict.create(bytes=2**24, buckets=64) as d:
        stored = 0
        with pytest.raises(SegmentFull, match=r"1,000,000 bytes.*Delete keys"):
            for number in range(100):
                d[f"k{number}"] = b"x" * 1_000_000
                stored += 1
        assert len(d) == stored >= 2
        for key, value in d.items():
            assert value == b"x" * 1_000_000, key
        del d["k0"]
        d["again"] = b"y" * 1_000_000
        assert d["again"] == b"y" * 1_000_000


def test_room_is_kept_by_a_view_and_given_back_with_it() -> None:
    with SharedDict.create(bytes=2**24) as d:
        d["k"] = np.zeros(12 * 2**20, "u1")
        view = d["k"]
        del d["k"]
        with pytest.raises(SegmentFull, match="let views of old values go"):
            d["k"] = np.zeros(12 * 2**20, "u1")
        del view
        gc.collect()
        d["k"] = np.zeros(12 * 2**20, "u1")


def test_room_filled_with_small_values_serves_for_large_ones_in_another_process_too() -> None:
    with SharedDict.create(bytes=2**24) as d, SharedDict.attach(os.getpid(), d.fileno()) as other:
        with pytest.raises(SegmentFull):
            for number in range(100_000):
                d[str(number)] = b"x"
        d.clear()
        other["large"] = bytes(12 * 2**20)
        del other["large"]
        d["large"] = bytes(12 * 2**20)


def test_room_that_a_dead_process_held_is_found_when_it_is_needed() -> None:
    with SharedDict.create(bytes=2**24) as d:
        d["k"] = bytes(12 * 2**20)
        pid = os.fork()
        if pid == 0:
            view = d.view("k")
            os.kill(os.getpid(), signal.SIGKILL)
            view.release()
        os.waitpid(pid, 0)
        del d["k"]
        assert d.statistics().used_blocks == 1
        d["k"] = bytes(12 * 2**20)


def test_a_value_that_never_fits_is_told_from_a_full_dictionary(d: SharedDict) -> None:
    with pytest.raises(ValueTooLarge, match=r"20,000,000 bytes under 'k' never fit.*16,777,216"):
        d["k"] = bytes(20_000_000)
    with (
        pytest.raises(ValueTooLarge, match="never fit"),
        d.reserve("k", shape=(2**40,), dtype="u1"),
    ):
        pass


def test_a_key_may_be_long_but_not_endless(d: SharedDict) -> None:
    longest = "k" * LONGEST_KEY_BYTES
    d[longest] = 1
    assert d[longest] == 1
    assert list(d) == [longest]
    with pytest.raises(ValueTooLarge, match="65,536 bytes is longer than 65,535"):
        d[longest + "k"] = 1


def test_keys_are_strings(d: SharedDict) -> None:
    with pytest.raises(UnknownType, match="must be a str, not int"):
        d[1] = 2  # type: ignore[index]
    assert 1 not in d  # type: ignore[comparison-overlap]
    with pytest.raises(KeyError):
        d[1]  # type: ignore[index]
    with pytest.raises(KeyError):
        del d[1]  # type: ignore[arg-type]

    class Name(str):
        __slots__ = ()

    d[Name("n")] = 1
    assert d["n"] == d[Name("n")] == 1
    assert Name("n") in d
    assert d.pop(Name("n")) == 1


def test_a_missing_key_is_a_key_error(d: SharedDict) -> None:
    for refused in (lambda: d["k"], lambda: d.pop("k"), lambda: d.view("k"), d.popitem):
        with pytest.raises(KeyError):
            refused()


def test_a_closed_dictionary_says_so() -> None:
    d = SharedDict.create(bytes=2**20)
    d["k"] = np.arange(3)
    view = d["k"]
    d.close()
    d.close()
    for refused in (
        lambda: d["k"],
        lambda: d.__setitem__("k", 1),
        lambda: "k" in d,
        lambda: len(d),
        lambda: list(d),
        lambda: d.wait("k", 0),
        d.snapshot,
        d.statistics,
    ):
        with pytest.raises(SegmentClosed, match="closed in this process"):
            refused()
    assert repr(d) == "<SharedDict closed>"
    np.testing.assert_array_equal(view, [0, 1, 2])


def test_places_run_out_with_a_number_and_come_back() -> None:
    with SharedDict.create(bytes=2**20) as d:
        others = []
        with pytest.raises(PlacesTaken, match="All 62 places"):
            for _ in range(70):
                others.append(SharedDict.attach(os.getpid(), d.fileno()))  # noqa: PERF401
        assert len(others) == 61
        assert d.statistics().places_taken == 62
        others.pop().close()
        SharedDict.attach(os.getpid(), d.fileno()).close()
        for other in others:
            other.close()
        assert d.statistics().places_taken == 1


def test_another_file_is_no_dictionary() -> None:
    fd = os.memfd_create("not a dictionary")
    os.write(fd, b"x" * 100_000)
    try:
        with pytest.raises(WrongLayout, match="no SharedDict of this version"):
            SharedDict.attach(os.getpid(), fd)
    finally:
        os.close(fd)


def test_arguments_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="bytes=0"):
        SharedDict.create(bytes=0)
    with pytest.raises(ValueError, match="power of two"):
        SharedDict.create(buckets=3)


def test_an_error_in_reserve_undoes_it(d: SharedDict) -> None:
    d["k"] = 1
    with pytest.raises(RuntimeError, match="model"), d.reserve("k", shape=4) as out:
        out[:] = 2
        raise RuntimeError("model")
    del out
    gc.collect()
    assert d["k"] == 1
    assert d.statistics().used_blocks == 1


def test_a_reserved_array_is_seen_on_leaving_and_read_only_from_then_on(d: SharedDict) -> None:
    with d.reserve("k", shape=(2, 3), dtype="i4") as out:
        out[:] = 5
        assert "k" not in d
    assert (d["k"] == 5).all()
    assert d["k"].ctypes.data == out.ctypes.data
    with pytest.raises(ValueError, match="read-only"):
        out[0] = 1


def test_every_code_of_the_core_has_its_error() -> None:
    """`system` fails in `create` alone; `not_found` and `again` are answers."""
    answered = {CODES[name] for name in ("system", "not_found", "again")}
    assert set(_TELLERS) == set(CODES.values()) - answered


def test_a_segment_written_over_gives_errors_and_no_crash() -> None:
    """Everything behind the header: extent words, holders, buckets, blocks."""
    random.seed(11)
    for _ in range(60):
        d = SharedDict.create(bytes=2**21, buckets=16)
        for number in range(200):
            d[f"k{number}"] = np.arange(number)
        arena_at = int(np.frombuffer(os.pread(d.fileno(), 128, 0), "u8")[7])
        pages = arena_at // 4096 + 40
        for _ in range(40):
            page = random.randrange(4, pages)
            junk = random.choice([b"\xff" * 64, os.urandom(64), bytes(64)])
            os.pwrite(d.fileno(), junk, page * 4096 + random.randrange(0, 4096 - 64, 8))
        for bucket in range(16):  # and the heads of chains themselves
            os.pwrite(d.fileno(), os.urandom(8), body_at(d) + 64 * bucket + 8)
        for number in range(200):
            with suppress(CubbyholeError):
                d[f"k{number}"] = number
                d.get(f"k{number}")
                d.pop(f"k{number}", None)
        for look in (d.snapshot, d.keys().__len__, d.popitem, d.statistics, d.clear):
            with suppress(CubbyholeError):
                look()
        d.close()


def body_at(d: SharedDict) -> int:
    """Where the buckets start. magic, version and kind, segment_bytes, places_at, extents_at, holders_at, body_at, arena_at."""
    return int(np.frombuffer(os.pread(d.fileno(), 128, 0), "u8")[6])
