# SPDX-License-Identifier: Apache-2.0
"""`Task`: a claimed entry on its way through the hooks; `Raised`: what a hook raised, as a value.

Flow:  runner.py -> Task -> loops, batches.py, streams.py -> runner.py
Owns:  what the hooks made of one entry, until its answer is published.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cubbyhole.worker.answers import STREAM_META
from cubbyhole.worker.rooms import Room, Rooms

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
        room: What its code reserved for the answer; None: nothing.
    """

    __slots__ = (
        "_rooms",
        "contexts",
        "entry",
        "failure",
        "head",
        "inputs",
        "renderer",
        "request",
        "room",
    )

    def __init__(self, entry: ClaimedEntry, rooms: Rooms | None = None) -> None:
        self.entry = entry
        self._rooms = rooms
        self.room: Room | None = None
        self.request: Any = None
        self.inputs: list[Any] = []
        self.contexts: list[dict[str, Any]] = []
        self.failure: Failure | None = None
        self.head = (200, STREAM_META)
        self.renderer: Any = None

    def cancelled(self) -> bool:
        """Whether nobody waits any more: what a hook's parameter `cancelled` calls."""
        return self.entry.cancelled

    def reserve(self, shape: Any, dtype: Any = "float32") -> Any:
        """Memory for the answer: what a hook's parameter `reserve` calls."""
        if self.room is None:
            self.room = Room(self._rooms or Rooms(None))
        return self.room.reserve(shape, dtype)


class Raised:
    """What user code raised, as a value."""

    __slots__ = ("error",)

    def __init__(self, error: Exception) -> None:
        self.error = error
