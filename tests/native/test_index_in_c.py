# SPDX-License-Identifier: Apache-2.0
"""The index of `SharedDict` in plain C: death at every marked point, threads as processes, sanitizers.

The programs beside this file are compiled here; `CUBBYHOLE_STRESS_S` makes the stress longer than its few seconds.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

HERE = Path(__file__).parent
NATIVE = HERE.parents[1] / "src" / "cubbyhole" / "_native"
SECONDS = float(os.environ.get("CUBBYHOLE_STRESS_S", "2"))
SEED = os.environ.get("CUBBYHOLE_STRESS_SEED", "1")
SOURCES = ("cbh_index.c", "cbh_heap.c")

pytestmark = [
    pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed"),
    pytest.mark.timeout(120 + 2 * SECONDS),
]

Finished = subprocess.CompletedProcess[str]


class Change(NamedTuple):
    """A protection, and the source without it."""

    file: str
    old: str
    new: str


def build(program: str, into: Path, *flags: str, change: Change | None = None) -> Path:
    native = into / "native"
    shutil.copytree(NATIVE, native, ignore=shutil.ignore_patterns("*.so", "_*", "__pycache__"))
    if change is not None:
        source = (native / change.file).read_text()
        assert source.count(change.old) == 1, f"{change.file} has changed: {change.old!r}"
        (native / change.file).write_text(source.replace(change.old, change.new))
    common = [
        *("gcc", "-std=gnu11", "-O1", "-g", "-Wno-tsan", "-DCBH_CRASH_POINTS"),
        *(f"-I{native}", f"-I{HERE}", *flags),
    ]
    segment = into / "segment.o"
    # The stress dies by longjmp instead of SIGKILL: its own cbh_crash_here() takes the place of the segment's.
    renamed = (
        ["-Dcbh_crash_here=unused_crash_here", "-Dcbh_crash_armed=unused_crash_armed"]
        if program == "stress_index"
        else []
    )
    subprocess.run(
        [*common, *renamed, "-c", str(native / "cbh_segment.c"), "-o", str(segment)], check=True
    )
    made = into / program
    sources = [str(native / name) for name in SOURCES]
    subprocess.run(
        [*common, *sources, str(HERE / f"{program}.c"), str(segment), "-pthread", "-o", str(made)],
        check=True,
    )
    return made


def run(program: Path, *arguments: object) -> Finished:
    environment = {
        "TSAN_OPTIONS": "halt_on_error=1",
        "UBSAN_OPTIONS": "halt_on_error=1",
        "ASAN_OPTIONS": "detect_stack_use_after_return=0",  # a "dead" thread leaves its frames by longjmp
    }
    command = [str(program), *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def stress(program: Path, seconds: float, largest_bytes: int, death_every: int = 300) -> Finished:
    return run(program, seconds, 6, 40, largest_bytes, SEED, death_every)


def numbers(done: Finished) -> dict[str, int]:
    assert (done.returncode, done.stderr) == (0, ""), done.stderr[-3000:]
    return {name: int(number) for name, number in re.findall(r"(\w+)=(\d+)", done.stdout)}


def test_death_at_every_point_leaves_a_whole_dictionary(tmp_path: Path) -> None:
    done = run(build("crash_index", tmp_path))
    assert done.returncode == 0, done.stderr[-500:]
    died_at = {int(line.split()[0]) for line in done.stdout.splitlines()}
    source = "".join((NATIVE / name).read_text() for name in SOURCES)
    assert died_at == {int(point) for point in re.findall(r"cbh_crash_here\((\d+)\)", source)}


@pytest.mark.parametrize(
    ("sanitizer", "largest_bytes"),
    [
        ("", 4 << 20),
        ("", 4096),
        ("thread", 4096),
        ("thread", 1 << 20),
        ("address,undefined", 4 << 20),
        ("address,undefined", 4096),
    ],
)
def test_no_value_is_torn_and_no_block_lost(
    sanitizer: str, largest_bytes: int, tmp_path: Path
) -> None:
    flags = [f"-fsanitize={sanitizer}"] if sanitizer else []
    found = numbers(stress(build("stress_index", tmp_path, *flags), SECONDS, largest_bytes))
    assert found["deaths"] > 0
    assert found["leases"] > 0


DEATH_WITHOUT = {
    "the end of what the dead began, on reaping": Change(
        "cbh_segment.c",
        "if (segment->mend) segment->mend(segment->mend_context, place);",
        "",
    ),
    "the end of what the dead began, on taking its lock": Change(
        "cbh_index.c", "STEALS, 1);\n      mend_bucket(x, i);", "STEALS, 1);"
    ),
    "taking the lock of a dead owner": Change(
        "cbh_index.c", "if (word != 0 && owner_gone(x, word, turn > 0)) {", "if (0) {"
    ),
    "giving back the block that was not linked": Change(
        "cbh_index.c", "if (holders) atomic_fetch_and(holders, ~CBH_LINKED);", "(void)holders;"
    ),
    "counting keys anew": Change(
        "cbh_index.c",
        "(int32_t)(before + effect - (uint32_t)keys)",
        "(int32_t)((before + effect - (uint32_t)keys) * 0)",
    ),
    "clearing all of a half taken extent": Change(
        "cbh_heap.c",
        "    uint64_t used = atomic_load(&used_words(s)[extent]);",
        "    uint64_t each, used = blocks_of(s, extent, &each);",
    ),
    "the note of what is about to be done": Change(
        "cbh_index.c", "INTENT | i << 32 | (keys & 0xffffffff)", "(keys & 0)"
    ),
}


@pytest.mark.mutation
@pytest.mark.parametrize("protection", DEATH_WITHOUT)
def test_death_is_not_survived_without(protection: str, tmp_path: Path) -> None:
    program = build("crash_index", tmp_path, change=DEATH_WITHOUT[protection])
    assert run(program).returncode != 0


STRESS_WITHOUT = {
    "the reader's bit in the block": (
        4096,
        "",
        Change("cbh_index.c", "&holders, holders | me(x),", "&holders, holders,"),
    ),
    "pages given back before the extent is free": (
        4 << 20,
        "",
        Change(
            "cbh_heap.c",
            "uint64_t free_word = 0, taking = extent_word(s, CBH_EXTENT_TAKING, length);\n  if (length == 0",
            "uint64_t free_word = 0, taking = (word & ~0xffull) | CBH_EXTENT_TAKING;\n  if (length == 0",
        ),
    ),
    "a lock of each bucket": (
        4096,
        "",
        Change(
            "cbh_index.c",
            "    relax();\n  }\n  if (word != 0 &&",
            "    return CBH_OK;\n  }\n  if (word != 0 &&",
        ),
    ),
    "the release of a block": (
        4096,
        "thread",
        Change(
            "cbh_heap.c",
            "atomic_fetch_and_explicit(holders, ~bits, memory_order_acq_rel) & ~bits;",
            "atomic_fetch_and_explicit(holders, ~bits, memory_order_relaxed) & ~bits;",
        ),
    ),
}


@pytest.mark.mutation
@pytest.mark.parametrize("protection", STRESS_WITHOUT)
def test_the_stress_fails_without(protection: str, tmp_path: Path) -> None:
    largest_bytes, sanitizer, change = STRESS_WITHOUT[protection]
    flags = [f"-fsanitize={sanitizer}"] if sanitizer else []
    program = build("stress_index", tmp_path, *flags, change=change)
    tries = [stress(program, max(SECONDS, 4.0), largest_bytes) for _ in range(3)]
    assert any(done.returncode != 0 for done in tries)
