# SPDX-License-Identifier: Apache-2.0
"""A new rank at the worst moment: others claim, answer and submit just when it is about to be stored."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

import cubbyhole

HERE = Path(__file__).parent
NATIVE = Path(cubbyhole.__file__).parent / "_native"
SOURCES = ("dict", "history", "reclaim", "stream", "bell", "segment", "heap")  # operate is included


@pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")
def test_a_new_rank_is_no_other_entrys_and_hides_none(tmp_path: Path) -> None:
    program = tmp_path / "rerank_between"
    sources = [str(NATIVE / f"cbh_{name}.c") for name in SOURCES]
    command = ["gcc", "-std=gnu11", "-g", f"-I{NATIVE}", str(HERE / "rerank_between.c"), *sources]
    subprocess.run([*command, "-o", str(program)], check=True)
    done = subprocess.run([str(program)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
