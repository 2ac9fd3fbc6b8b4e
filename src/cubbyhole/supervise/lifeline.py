# SPDX-License-Identifier: Apache-2.0
"""The life line: a pipe whose write end only the supervisor holds, so that its death, however it comes, is seen by all.

Flow:  wiring -> Lifeline.create() -> arguments of fronts and workers -> they watch `fileno()`; readable = EOF = end now
Owns:  the pipe. Nothing is ever written to it.

A pid check would be a poll, and `PR_SET_PDEATHSIG` follows the *thread* that made the child and exists on Linux only.
"""

from __future__ import annotations

import os
import weakref
from multiprocessing import reduction
from typing import Any


class Lifeline:
    """One end for all children: `fileno()` becomes readable (end of file) when the supervisor is gone or lets go."""

    def __init__(self, read_fd: int, write_fd: int | None = None) -> None:
        self._read_fd = read_fd
        self._write_fd = write_fd

    @classmethod
    def create(cls) -> Lifeline:
        """Make the pipe, in the supervisor."""
        line = cls(*os.pipe())
        reference = weakref.ref(line)

        def close_in_child() -> None:
            # Whatever this process forks (fronts, a Manager, user code) must not keep the line alive after us.
            held = reference()
            if held is not None:
                held.let_go()

        os.register_at_fork(after_in_child=close_in_child)
        return line

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (reduction.DupFd(self._read_fd),)

    def fileno(self) -> int:
        """Return the descriptor to watch for reading."""
        return self._read_fd

    def let_go(self) -> None:
        """Close the write end: in the supervisor this tells every child to end."""
        if self._write_fd is not None:
            os.close(self._write_fd)
            self._write_fd = None

    def close(self) -> None:
        """Close both ends; safe to repeat."""
        self.let_go()
        if self._read_fd >= 0:
            os.close(self._read_fd)
            self._read_fd = -1


def _rebuild(dup: Any) -> Lifeline:
    fd = dup.detach()
    os.set_inheritable(fd, False)
    return Lifeline(fd)
