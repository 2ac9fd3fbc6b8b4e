# SPDX-License-Identifier: Apache-2.0
"""The core under sanitizers: threads stand for processes, every byte is checked, no block may be left."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

NATIVE = Path(__file__).resolve().parents[2] / "src" / "cubbyhole" / "_native"
STRESS = Path(__file__).with_name("stress_entries.c")
SECONDS = os.environ.get("CUBBYHOLE_STRESS_S", "2")
SOURCES = (
    "cbh_dict.c",
    "cbh_history.c",
    "cbh_operate.c",
    "cbh_reclaim.c",
    "cbh_stream.c",
    "cbh_bell.c",
    "cbh_segment.c",
    "cbh_heap.c",
)

pytestmark = [
    pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed"),
    pytest.mark.timeout(240 + 4 * float(SECONDS)),
]


def run_stress(
    native: Path, sanitizer: str, into: Path, seconds: str = SECONDS
) -> subprocess.CompletedProcess[str]:
    program = into / "stress"
    flags = ["-std=gnu11", "-O1", "-g", "-Wno-tsan", f"-fsanitize={sanitizer}", f"-I{native}"]
    sources = [str(native / name) for name in SOURCES]
    subprocess.run(
        ["gcc", *flags, *sources, str(STRESS), "-o", str(program), "-lpthread"],
        check=True,
        capture_output=True,
    )
    return subprocess.run(
        [str(program), seconds],
        env={"TSAN_OPTIONS": "halt_on_error=1", "UBSAN_OPTIONS": "halt_on_error=1"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("sanitizer", ["thread", "address,undefined"])
def test_entries_pass_under(sanitizer: str, tmp_path: Path) -> None:
    done = run_stress(NATIVE, sanitizer, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "answered" in done.stdout


ORDERINGS = {
    "a request is read after it was written": (
        "cbh_dict.c",
        (
            "memory_order_release);\n  cbh_crash_here(2);\n"
            "  atomic_fetch_or(&cbh_ready_words(dict, endpoint)[index / 64], 1ull << (index & 63));"
        ),
        (
            "memory_order_relaxed);\n  atomic_fetch_or_explicit("
            "&cbh_ready_words(dict, endpoint)[index / 64], 1ull << (index & 63), memory_order_relaxed);"
        ),
    ),
    "a chunk is read after it was written": (
        "cbh_stream.c",
        "atomic_store_explicit(&ring->written, written, memory_order_release);",
        "atomic_store_explicit(&ring->written, written, memory_order_relaxed);",
    ),
    "room in a stream is used after it was read": (
        "cbh_stream.c",
        "atomic_store_explicit(&ring->taken, cursor, memory_order_release);",
        "atomic_store_explicit(&ring->taken, cursor, memory_order_relaxed);",
    ),
}


@pytest.mark.mutation
@pytest.mark.parametrize("order", ORDERINGS)
def test_the_thread_sanitizer_notices_without(order: str, tmp_path: Path) -> None:
    file, code, weaker = ORDERINGS[order]
    native = tmp_path / "native"
    shutil.copytree(NATIVE, native)
    text = (native / file).read_text()
    assert text.count(code) == 1
    (native / file).write_text(text.replace(code, weaker))
    # Threads must meet in the few instructions between; on a busy machine that takes a while. It ends at the first race.
    assert "data race" in run_stress(native, "thread", tmp_path, "30").stderr
