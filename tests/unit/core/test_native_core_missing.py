# SPDX-License-Identifier: Apache-2.0
"""Where the native core cannot be loaded, the package imports, and says in one line what to install."""

from __future__ import annotations

import subprocess
import sys

import pytest

WITHOUT = """
import sys
for module in ("_segment", "_entries", "_index"):
    sys.modules["cubbyhole._native." + module] = None  # as if it had not been built
import cubbyhole
assert cubbyhole.LitAPI and cubbyhole.LitServer
try:
    {use}
except cubbyhole.core.errors.NativeCoreMissing as error:
    print(error)
"""


@pytest.mark.parametrize(
    "use",
    [
        "cubbyhole.SharedDict",
        "from cubbyhole.channels.registry import create_channel; create_channel('shm', None)",
    ],
)
def test_who_needs_the_core_is_told_in_one_line(use: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import cubbyhole.core.errors\n" + WITHOUT.format(use=use)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.count("\n") == 1
    assert "apt install gcc python3-dev" in done.stdout
