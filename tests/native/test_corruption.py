# SPDX-License-Identifier: Apache-2.0
"""A segment that somebody writes over: the core refuses or goes on; it does not crash, hang or look outside.

`CUBBYHOLE_STRESS_S` makes it longer; a failure names its seed: run the program with that seed and 1.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from cubbyhole._native import _segment

NATIVE = Path(_segment.__file__).parent  # the source of what is imported, where it lies beside
if not (NATIVE / "cbh_dict.c").exists():
    NATIVE = Path(__file__).resolve().parents[2] / "src" / "cubbyhole" / "_native"
PROGRAM = Path(__file__).with_name("corrupt_entries.c")
SOURCES = (
    *("cbh_dict.c", "cbh_history.c", "cbh_reclaim.c", "cbh_stream.c"),
    *("cbh_bell.c", "cbh_segment.c", "cbh_heap.c"),
)
SECONDS = float(os.environ.get("CUBBYHOLE_STRESS_S", "2"))
SEED = int(os.environ.get("CUBBYHOLE_SEED", "1"))
CASES = int(1000 * SECONDS)

needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")
pytestmark = pytest.mark.timeout(300 + 60 * SECONDS)


def scribble(native: Path, into: Path, cases: int) -> subprocess.CompletedProcess[str]:
    program = into / "corrupt"
    flags = ["-std=gnu11", "-O1", "-g", "-fsanitize=address,undefined", f"-I{native}"]
    sources = [str(native / name) for name in SOURCES]
    subprocess.run(["gcc", *flags, *sources, str(PROGRAM), "-o", str(program)], check=True)
    return subprocess.run(
        [str(program), str(SEED), str(cases)],
        env={"UBSAN_OPTIONS": "halt_on_error=1", "ASAN_OPTIONS": "detect_leaks=0"},
        capture_output=True,
        text=True,
        check=False,
    )


@needs_gcc
def test_words_written_over_crash_hang_and_point_outside_nowhere(tmp_path: Path) -> None:
    print(f"CUBBYHOLE_SEED={SEED}")  # noqa: T201 (a failure is repeated with it)
    done = scribble(NATIVE, tmp_path, CASES)
    assert (done.returncode, done.stdout) == (0, f"ok {CASES}\n"), done.stderr[-3000:]


CHECKS = {
    "offsets of the header are copied before they are used": (
        "cbh_segment.c",
        "segment->header = &segment->checked;",
        "segment->header = h;",
    ),
    "a block's offset is looked up": (
        "cbh_heap.c",
        "if (offset < s->header->arena_at || offset >= s->bytes) return NULL;",
        "if (0) return NULL;",
    ),
    "a result's length is compared with its block": (
        "cbh_dict.c",
        "if (result->body_bytes > capacity - result->body_from) return false;",
        "",
    ),
    "a slot is given back once": (
        "cbh_dict.c",
        "if (dict->free_count < dict->per_front) dict->free_slots",
        "dict->free_slots",
    ),
    "a place is one that has a bell": (
        "cbh_dict.c",
        "if (place >= CBH_PLACES) return;",
        "",
    ),
}


@needs_gcc
@pytest.mark.mutation
@pytest.mark.timeout(1800)  # a process for each of 20,000 cases
@pytest.mark.parametrize("check", CHECKS)
def test_the_scribbler_finds_what_is_not_checked(check: str, tmp_path: Path) -> None:
    file, code, without = CHECKS[check]
    native = tmp_path / "native"
    shutil.copytree(NATIVE, native, ignore=shutil.ignore_patterns("*.so", "_*"))
    text = (native / file).read_text()
    assert text.count(code) == 1
    (native / file).write_text(text.replace(code, without))
    assert scribble(native, tmp_path, 20_000).returncode != 0


def test_a_file_that_could_be_cut_short_is_no_segment() -> None:
    """Its pages could go while somebody looks at them, which is SIGBUS."""
    whole = _segment.Segment.create(_segment.KIND_ENTRIES, 4096, 1 << 20, (1, 1, 1, 64))
    copy = os.memfd_create("cut")
    try:
        os.ftruncate(copy, os.fstat(whole).st_size)
        os.pwrite(copy, os.pread(whole, 4096, 0), 0)
        _segment.Segment.attach(whole, _segment.KIND_ENTRIES)
        with pytest.raises(_segment.CoreError, match="wrong_layout"):
            _segment.Segment.attach(copy, _segment.KIND_ENTRIES)
        with pytest.raises(PermissionError):
            os.ftruncate(whole, 4096)
    finally:
        os.close(whole)
        os.close(copy)
