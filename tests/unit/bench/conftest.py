# SPDX-License-Identifier: Apache-2.0
"""The benchmark is a package at the root of the clone, not installed: make it importable."""

import sys
from pathlib import Path

import cubbyhole  # noqa: F401  (the one that is tested, before bench takes the clone's)

ROOT = str(Path(__file__).resolve().parents[3])
if ROOT not in sys.path:
    sys.path.insert(0, ROOT)
