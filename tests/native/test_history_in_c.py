# SPDX-License-Identifier: Apache-2.0
"""Records of what is over, written and read at the same time: whole, whatever the moment of the look."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

NATIVE = Path(__file__).resolve().parents[2] / "src" / "cubbyhole" / "_native"
STRESS = Path(__file__).with_name("stress_history.c")
SOURCES = (
    "cbh_dict.c",
    "cbh_history.c",
    "cbh_stream.c",
    "cbh_bell.c",
    "cbh_segment.c",
    "cbh_heap.c",
)

pytestmark = [
    pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed"),
    pytest.mark.timeout(120),
]


def run_stress(
    native: Path, into: Path, *flags: str, seconds: str = "1"
) -> subprocess.CompletedProcess[str]:
    program = into / "stress"
    sources = [str(native / name) for name in SOURCES]
    subprocess.run(
        [
            "gcc",
            "-std=gnu11",
            *flags,
            f"-I{native}",
            *sources,
            str(STRESS),
            "-o",
            str(program),
            "-lpthread",
        ],
        check=True,
        capture_output=True,
    )
    return subprocess.run(
        [str(program), seconds], capture_output=True, text=True, check=False, timeout=60
    )


@pytest.mark.parametrize("flags", [["-O2"], ["-O1", "-g", "-Wno-tsan", "-fsanitize=thread"]])
def test_a_record_is_never_torn(flags: list[str], tmp_path: Path) -> None:
    done = run_stress(NATIVE, tmp_path, *flags)
    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout.split()[-1]) > 0


@pytest.mark.mutation
def test_without_the_second_look_it_is(tmp_path: Path) -> None:
    native = tmp_path / "native"
    shutil.copytree(NATIVE, native)
    text = (native / "cbh_history.c").read_text()
    look = "if (CBH_GET(r->sequence) == before) return credible"
    assert text.count(look) == 1
    (native / "cbh_history.c").write_text(text.replace(look, "return credible"))
    assert "torn record" in run_stress(native, tmp_path, "-O2", seconds="10").stderr
