# SPDX-License-Identifier: Apache-2.0
"""A protection, taken out of a copy of the source, and the test that must notice.

Flow:  rows_*.py (the list) -> **Mutation** -> test_taken_out.py -> pytest on the copy
Owns:  nothing: the copy lies in a temporary folder of the test's.
See:   docs/reliability.md, whose every promise has a row here or a reason in `rows_not_taken_out.py`
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NATIVE = "src/cubbyhole/_native/"
TESTS_FAILED = 1  # pytest's exit code; 2 to 5 say that no test had its say


@dataclass(frozen=True)
class Mutation:
    """One protection less.

    Attributes:
        what: The protection, in words, as docs would say it.
        file: Where it is, from the root of the repository.
        old: Text that occurs there exactly once.
        new: What stands there instead.
        kept_by: The test that must fail, as docs/reliability.md names it: "tests/...py::test_..." or "src/...py::check".
        words: Further words for pytest, e.g. ("-k", "shm").
        more: Further (old, new) of the same file, where a protection stands in two places.
        elsewhere: Further (file, old, new), where another layer keeps the same promise.
    """

    what: str
    file: str
    old: str
    new: str
    kept_by: str
    words: tuple[str, ...] = ()
    more: tuple[tuple[str, str], ...] = ()
    elsewhere: tuple[tuple[str, str, str], ...] = ()

    @property
    def changes(self) -> dict[str, list[tuple[str, str]]]:
        """For each file, what is taken out and what stands there instead."""
        found: dict[str, list[tuple[str, str]]] = {self.file: [(self.old, self.new), *self.more]}
        for file, old, new in self.elsewhere:
            found.setdefault(file, []).append((old, new))
        return found

    @property
    def node(self) -> tuple[str, ...]:
        """What pytest is to run."""
        file, _, name = self.kept_by.partition("::")
        if file.startswith(
            "src/cubbyhole/testing/"
        ):  # a check of channels, which the contract suite runs by its name
            return ("tests/contract", "-k", name)
        return (self.kept_by,)

    def occurrences(self) -> list[int]:
        """Return how often each text that is taken out occurs in the source as it is; rightly once."""
        return [
            (ROOT / file).read_text().count(old)
            for file, changes in self.changes.items()
            for old, _ in changes
        ]

    def take_out(self, folder: Path) -> None:
        """Make a copy of the source without the protection, native core included."""
        # With what is compiled already: to compile it again would take most of a run's time.
        shutil.copytree(ROOT / "src", folder / "src", symlinks=True)
        for file, changes in self.changes.items():
            place = folder / file
            text = place.read_text()
            for old, new in changes:
                text = text.replace(old, new)
            place.write_text(text)
        if any(file.startswith(NATIVE) for file in self.changes):
            for name in ("setup.py", "pyproject.toml", "README.md"):
                shutil.copy(ROOT / name, folder / name)
            subprocess.run(
                [sys.executable, "setup.py", "-q", "build_ext", "--inplace", "--force"],
                cwd=folder,
                check=True,
                capture_output=True,
                timeout=300,
            )

    def run(self, folder: Path, timeout_s: float) -> subprocess.CompletedProcess[str]:
        """Run the test on the copy. The tests themselves are those of the tree: they are what is tested."""
        # Without schemathesis's plugin, which takes a second to import and which no test needs.
        off = ("-p", "no:cacheprovider", "-p", "no:randomly", "-p", "no:schemathesis")
        words = ("-x", "-q", *off, *self.words)
        return subprocess.run(
            [sys.executable, "-m", "pytest", *self.node, *words],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(folder / "src"), "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_s,
        )
