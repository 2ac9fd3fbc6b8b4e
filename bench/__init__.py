# SPDX-License-Identifier: Apache-2.0
"""Measurements: each figure that the project states, by a command that anybody can run.

`python -m bench servers` compares whole servers, `python -m bench channels` what carries requests between processes,
`python -m bench article` the claims of `docs/article.md`, `python -m bench compare` two result files. Nothing here is part of the wheel;
what the wheel measures too (`cubbyhole bench channels`) is in `cubbyhole.measuring`.
"""

import sys
from pathlib import Path

_SOURCE = str(Path(__file__).resolve().parent.parent / "src")
if _SOURCE not in sys.path:
    # At the end: an installed Cubbyhole is measured, where there is one; without one the bench starts nevertheless.
    sys.path.append(_SOURCE)
