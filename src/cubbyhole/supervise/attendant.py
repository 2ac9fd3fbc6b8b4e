# SPDX-License-Identifier: Apache-2.0
"""A child beside the fronts and workers: it carries no request, so its death is no more than a reason to start it again.

Flow:  places.py -> **Attendant** -> Pool.attend -> its descriptors are waited for, `turn` at each turn -> end() after the drain
Owns:  the child.
"""

from __future__ import annotations

import logging
import signal
from typing import TYPE_CHECKING

from cubbyhole.core.clock import now_ns
from cubbyhole.supervise.restarts import RestartPolicy

if TYPE_CHECKING:
    from collections.abc import Callable

    from cubbyhole.supervise.process import Child

logger = logging.getLogger(__name__)

EXIT_S = 5.0
SETTLED_NS = (
    5_000_000_000  # a child that lived so long had started; an earlier end counts as a failed start
)


class Attendant:
    """One child that is wanted for as long as the server lives.

    Args:
        name: For the log.
        start: Starts it.
        is_due: Whether it may be started for the first time.
        on_end: What is to be freed with it.
        policy: How often and how soon it is started again.
    """

    def __init__(
        self,
        name: str,
        start: Callable[[], Child],
        *,
        is_due: Callable[[], bool],
        on_end: Callable[[], None],
        policy: RestartPolicy | None = None,
    ) -> None:
        self.child: Child | None = None
        self.given_up = False
        self._name = name
        self._start = start
        self._is_due = is_due
        self._on_end = on_end
        self._policy = policy or RestartPolicy()
        self._due_ns: int | None = 0

    def descriptors(self) -> list[int]:
        """Return what to wait for: the child's end."""
        return [] if self.child is None else [self.child.fileno()]

    def turn(self) -> None:
        """Bury the child if it ended, start it if that is due."""
        if self.child is not None:
            self._look(self.child)
        elif self._due_ns is not None and now_ns() >= self._due_ns and self._is_due():
            self._due_ns = 0
            self._begin()

    def end(self) -> None:
        """End the child, and wait for it."""
        self._due_ns = None
        child, self.child = self.child, None
        if child is not None:
            child.signal(signal.SIGTERM)
            if child.reap(EXIT_S) is None:
                child.signal(signal.SIGKILL)
                child.reap()
        self._on_end()

    def _begin(self) -> None:
        try:
            self.child = self._start()
        except OSError as error:  # no memory, processes or descriptors left: that may pass
            self._schedule(f"not_started:{error.strerror}", was_ready=False)
            return
        logger.debug("%s started: pid=%d", self._name, self.child.pid)

    def _look(self, child: Child) -> None:
        reason = child.reap(0)
        if reason is None:
            return
        self.child = None
        self._schedule(reason, was_ready=now_ns() - child.started_ns > SETTLED_NS)

    def _schedule(self, reason: str, *, was_ready: bool) -> None:
        backoff_s = self._policy.backoff_s(now_ns(), was_ready=was_ready)
        if backoff_s is None:
            self._due_ns = None
            self.given_up = True
            logger.error(
                "%s given up: reason=%s starts=%d", self._name, reason, self._policy.recent
            )
            return
        self._due_ns = now_ns() + int(backoff_s * 1e9)
        logger.warning("%s replaced: reason=%s backoff_ms=%d", self._name, reason, backoff_s * 1000)
