# SPDX-License-Identifier: Apache-2.0
"""Bring changes of the segment into event loops: one thread for each dictionary, and only while somebody awaits a key.

A futex has no descriptor that a loop could watch. The thread sleeps on the one word of the segment that changes when a
bucket changes that somebody armed, and tells the loops of this process whose bucket it was.

Flow:  SharedDict.wait_async -> **watching.py** -> _native/_index.pyx
Owns:  the thread, and who waits for what.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from cubbyhole._native._segment import CoreError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterator

    from cubbyhole._native._index import Index

RECHECK_NS = (
    500_000_000  # what a ring costs that was lost with its ringer; two looks a second are nothing
)


class _Waiter:
    __slots__ = ("event", "key", "loop", "version")

    def __init__(self, key: str, event: asyncio.Event, loop: asyncio.AbstractEventLoop) -> None:
        self.key = key
        self.event = event
        self.loop = loop
        self.version = -1

    def tell(self) -> None:
        try:
            self.loop.call_soon_threadsafe(self.event.set)
        except RuntimeError:  # its loop was closed; nobody awaits it any more
            self.version = -1


class Watcher:
    """Tells coroutines of this process that the bucket of their key changed."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._lock = threading.Lock()
        self._waiters: list[_Waiter] = []
        self._thread: threading.Thread | None = None
        self._stopped = False

    @contextmanager
    def watching(
        self, key: str, event: asyncio.Event, loop: asyncio.AbstractEventLoop
    ) -> Iterator[None]:
        """Within, `event` is set whenever the key's bucket may have changed. Look at the key after entering."""
        waiter = _Waiter(key, event, loop)
        waiter.version = self._index.version(key)
        self._index.arm(key)
        with self._lock:
            self._waiters.append(waiter)
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="cubbyhole-watch", daemon=True
                )
                self._thread.start()
        try:
            yield
        finally:
            with self._lock:
                self._waiters.remove(waiter)

    def stop(self) -> None:
        """End the thread; all who wait are told once more."""
        self._stopped = True
        with self._lock:
            thread = self._thread
        if thread is not None:
            self._index.ring()
            thread.join()

    def _run(self) -> None:
        while True:
            try:
                changes = self._index.changes()
                with self._lock:
                    # Leaving and starting are decided under one lock, so that no waiter is left without a thread.
                    if self._stopped or not self._waiters:
                        self._thread = None
                        break
                    waiters = list(self._waiters)
                for waiter in waiters:
                    self._index.arm(waiter.key)
                    version = self._index.version(waiter.key)
                    if version != waiter.version:
                        waiter.version = version
                        waiter.tell()
            except CoreError:  # closed: each of them finds that out for itself
                break
            self._index.wait_any(changes, RECHECK_NS)
        with self._lock:
            for waiter in self._waiters:
                waiter.tell()
