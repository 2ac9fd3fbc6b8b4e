# SPDX-License-Identifier: Apache-2.0
"""A protection, taken out of a copy of the source, and the test that must notice.

Flow:  rows_*.py (the list) -> **Mutation** -> test_taken_out.py -> pytest on the copy
Owns:  nothing: the copy lies in a temporary folder of the test's.
See:   docs/reliability.md, whose every promise has a row here or a reason in `rows_not_taken_out.py`
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NATIVE = "src/cubbyhole/_native/"
PATH = "PYTHONPATH"
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
        elsewhere: (file, old, new), where another layer in another file keeps the promise as well.
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
    def changes(self) -> tuple[tuple[str, str, str], ...]:
        """All that is changed: file, old, new."""
        here = ((self.old, self.new), *self.more)
        return (*((self.file, old, new) for old, new in here), *self.elsewhere)

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
        return [(ROOT / file).read_text().count(old) for file, old, _ in self.changes]

    def take_out(self, folder: Path) -> None:
        """Make a copy of the source without the protection, native core included."""
        # With what is compiled already: to compile it again would take most of a run's time.
        shutil.copytree(ROOT / "src", folder / "src", symlinks=True)
        for file, old, new in self.changes:
            place = folder / file
            place.write_text(place.read_text().replace(old, new))
        # Where the package is installed, and not built in place, nothing is compiled yet: every test would fail, for no reason of ours.
        compiled = any((folder / NATIVE).glob("_entries*.so"))
        if not compiled or any(file.startswith(NATIVE) for file, _, _ in self.changes):
            for name in ("setup.py", "pyproject.toml", "README.md"):
                shutil.copy(ROOT / name, folder / name)
            subprocess.run(
                [sys.executable, "setup.py", "-q", "build_ext", "--inplace"],
                cwd=folder,
                env={**os.environ, "CUBBYHOLE_REQUIRE_NATIVE": "1"},
                check=True,
                capture_output=True,
                timeout=300,
            )

    def run(self, folder: Path, timeout_s: float) -> subprocess.CompletedProcess[str]:
        """Run the test on the copy. The tests themselves are those of the tree: they are what is tested."""
        # Without schemathesis's plugin, which takes a second to import and which no test needs.
        off = ("-p", "no:cacheprovider", "-p", "no:randomly", "-p", "no:schemathesis")
        words = ("-x", "-q", *off, *self.words)
        try:
            return subprocess.run(
                [sys.executable, "-m", "pytest", *self.node, *words],
                cwd=ROOT,
                env={**os.environ, PATH: str(folder / "src"), "PYTHONDONTWRITEBYTECODE": "1"},
                capture_output=True,
                text=True,
                check=False,
                timeout=timeout_s,
            )
        finally:
            end_left_overs(folder)


def end_left_overs(folder: Path) -> None:
    """End the processes that run on a copy: without what ends orphans, there are some."""
    mark = f"{PATH}={folder / 'src'}".encode()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended, or is somebody else's
            if mark in (process / "environ").read_bytes().split(b"\0"):
                os.kill(int(process.name), signal.SIGKILL)
