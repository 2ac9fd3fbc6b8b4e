# SPDX-License-Identifier: Apache-2.0
"""Measurements: each figure that the project states, by a command that anybody can run.

`python -m bench servers` compares whole servers, `python -m bench channels` what carries requests between processes,
`python -m bench article` the claims of `docs/article.md`, `python -m bench compare` two result files. Nothing here is part of the wheel;
what the wheel measures too (`cubbyhole bench channels`) is in `cubbyhole.measuring`.
"""

import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent
if "cubbyhole" not in sys.modules and not Path(sys.prefix).is_relative_to(_ROOT / ".bench"):
    # In a contender's environment what is installed there is measured; elsewhere nothing of ours need be installed. A test that
    # has ours already must not hand another copy's path to the processes that it spawns.
    sys.path.insert(0, str(_ROOT / "src"))
