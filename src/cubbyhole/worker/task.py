# SPDX-License-Identifier: Apache-2.0
"""`Task`: a claimed entry on its way through the hooks; `Raised`: what a hook raised, as a value.

Flow:  runner.py -> Task -> loops, batches.py, streams.py -> runner.py
Owns:  what the hooks made of one entry, until its answer is published.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cubbyhole.worker.answers import STREAM_META

if TYPE_CHECKING:
    from cubbyhole.core.entries import ClaimedEntry, Failure


class Task:
    """A claimed entry on its way through the hooks.

    Attributes:
        entry: The entry.
        request: What the reader made of its body.
        inputs, contexts: For each choice (one, but for a spec's requests for several).
        failure: Why it goes no further, if so.
        head: Status and encoded meta of its first chunk.
        renderer: The spec's, once a stream of it has begun.
    """

    __slots__ = ("contexts", "entry", "failure", "head", "inputs", "renderer", "request")

    def __init__(self, entry: ClaimedEntry) -> None:
        self.entry = entry
        self.request: Any = None
        self.inputs: list[Any] = []
        self.contexts: list[dict[str, Any]] = []
        self.failure: Failure | None = None
        self.head = (200, STREAM_META)
        self.renderer: Any = None

    def cancelled(self) -> bool:
        """Whether nobody waits any more: what a hook's parameter `cancelled` calls."""
        return self.entry.cancelled


class Raised:
    """What user code raised, as a value."""

    __slots__ = ("error",)

    def __init__(self, error: Exception) -> None:
        self.error = error
