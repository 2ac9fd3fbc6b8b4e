# SPDX-License-Identifier: Apache-2.0
"""Fuzz one target with atheris: `python tests/fuzz/fuzz.py npy -max_total_time=60`; `just fuzz` does it for all."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parent))
with atheris.instrument_imports(include=["cubbyhole", "targets"]):
    import targets


def main() -> None:
    """Run one target until libFuzzer's limit."""
    name, *options = sys.argv[1:]
    target, _ = targets.TARGETS[name]

    def one(data: bytes) -> None:
        with contextlib.suppress(*targets.REFUSALS):
            target(data)

    atheris.Setup([sys.argv[0], *options], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
