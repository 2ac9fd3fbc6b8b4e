# SPDX-License-Identifier: Apache-2.0
"""A server's memory without its processes: what an observer maps, and the ports that fill it."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgspec

from cubbyhole.channels.base import ChannelSettings
from cubbyhole.channels.shm import SharedMemoryChannel
from cubbyhole.core.clock import now_ns
from cubbyhole.core.entries import RequestEntry, RequestMeta
from cubbyhole.core.failures import FailureRecord, keep_failure
from cubbyhole.core.roster import ProcessState, Roster
from cubbyhole.observe.description import ServerDescription, WorkerPlace
from cubbyhole.seen.attached import AttachedServer

if TYPE_CHECKING:
    from collections.abc import Iterator

SIZES = ChannelSettings(fronts=1, workers=1, endpoints=1, slots=64, arena_bytes=64 << 20)


class Stage:
    """One front, one worker, and whoever looks."""

    def __init__(self, channel: SharedMemoryChannel, roster: Roster, **about: Any) -> None:
        self.channel = channel
        self.roster = roster
        self.front: Any = channel.front(0)
        self.worker: Any = channel.worker(0, 0)
        known = {
            "pid": os.getpid(),
            "version": "0",
            "started_s": 0.0,
            "address": "127.0.0.1:8000",
            "channel": "shm",
            "segment": channel.inode,
            "fronts": 1,
            "workers": (WorkerPlace(0, "cpu"),),
            "endpoints": ("/predict",),
            "slots": 64,
            "arena_bytes": SIZES.arena_bytes,
        }
        roster.set_pid(0, os.getpid())
        roster.set_pid(1, os.getpid())
        roster.set_state(roster.supervisor, ProcessState.READY)
        roster.beat(1, now_ns())
        description = msgspec.convert({**known, **about}, ServerDescription)
        self.attached = AttachedServer(description, roster, channel)
        self._last_id = 1 << 48

    def submit(self, body: bytes = b"{}", meta: RequestMeta | None = None, **more: Any) -> int:
        """Put a request on its way, and return its id."""
        self._last_id += 1
        encoded = b"" if meta is None else msgspec.msgpack.encode(meta)
        self.front.submit(
            RequestEntry(self._last_id, 0, body, encoded, received_ns=now_ns(), **more)
        )
        return self._last_id

    def claim(self) -> Any:
        """Have the worker take one."""
        (claimed,) = self.worker.claim(1, 0)
        return claimed

    def fail(self, request_id: int, **more: Any) -> None:
        """Keep a failure, as a front does."""
        with self.roster.failures(0) as ring:
            keep_failure(ring, FailureRecord(id=request_id, failed_ns=now_ns(), **more))


@contextmanager
def stage(**about: Any) -> Iterator[Stage]:
    """Make the memory, and free it."""
    channel, roster = SharedMemoryChannel.create(SIZES), Roster.create(1, 1)
    made = Stage(channel, roster, **about)
    try:
        yield made
    finally:
        made.worker.close()
        made.front.close()
        made.attached.close()
