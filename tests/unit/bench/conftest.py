# SPDX-License-Identifier: Apache-2.0
"""The benchmark is a package at the root of the clone, not installed: make it importable."""

import sys
from pathlib import Path

ROOT = str(Path(__file__).resolve().parents[3])
if ROOT not in sys.path:
    sys.path.insert(0, ROOT)
