# SPDX-License-Identifier: Apache-2.0
"""A debugger that works in worker processes, whose standard input is closed."""

from __future__ import annotations

import os
import pdb  # noqa: T100  (it is what this module gives)
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType

TERMINAL = Path("/dev/tty")


def open_debugger() -> pdb.Pdb:
    """Make a debugger that talks to the terminal of the whole process group; without one, to standard input."""
    try:
        reading, writing = TERMINAL.open(), TERMINAL.open("w")
    except OSError:
        return pdb.Pdb()
    return pdb.Pdb(stdin=reading, stdout=writing)


def break_at(frame: FrameType) -> None:
    """Begin debugging in a frame."""
    open_debugger().set_trace(frame)


def set_trace() -> None:
    """Break here, in whatever process this is."""
    break_at(sys._getframe().f_back)  # type: ignore[arg-type]  # noqa: SLF001  (as pdb.set_trace does)


def set_trace_if_debug(
    debug_env_var: str = "LITSERVE_DEBUG", debug_env_var_value: str = "1"
) -> None:
    """Break here if an environment variable has a value."""
    if os.environ.get(debug_env_var) == debug_env_var_value:
        break_at(sys._getframe().f_back)  # type: ignore[arg-type]  # noqa: SLF001  (as pdb.set_trace does)
