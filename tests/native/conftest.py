# SPDX-License-Identifier: Apache-2.0
"""Builds of the native core under other flags."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Protocol

import pytest

ROOT = Path(__file__).resolve().parents[2]


class Change(Protocol):
    """Changes the copied C source before it is built."""

    def __call__(self, native: Path) -> None: ...


class Build(Protocol):
    """Copies the source to `into`, builds it there, and returns the folder for PYTHONPATH."""

    def __call__(self, into: Path, change: Change | None = None, **environment: str) -> Path: ...


def _build(into: Path, change: Change | None = None, **environment: str) -> Path:
    generated = ("_segment.c", "_entries.c", "_history.c", "_index.c")
    ignore = shutil.ignore_patterns("*.so", "__pycache__", *generated)
    shutil.copytree(ROOT / "src", into / "src", ignore=ignore)
    for name in ("setup.py", "pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, into / name)
    if change is not None:
        change(into / "src" / "cubbyhole" / "_native")
    done = subprocess.run(
        [sys.executable, "setup.py", "-q", "build_ext", "--inplace"],
        cwd=into,
        env={**os.environ, "CUBBYHOLE_REQUIRE_NATIVE": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return into / "src"


@pytest.fixture(scope="session")
def build() -> Build:
    return _build


@pytest.fixture(scope="session")
def crash_build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The core with crash points compiled in, built once for a session."""
    return _build(tmp_path_factory.mktemp("crash"), CUBBYHOLE_CRASH_POINTS="1")
