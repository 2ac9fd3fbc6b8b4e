# SPDX-License-Identifier: Apache-2.0
"""The other processes of a run: an echo behind a `WorkerPort`, and an onlooker.

Kept in its own module because they are spawned: what is imported here is what a worker carries.

Flow:  channel_run.py, bench/article_run.py -> spawn -> **serve**, **look**
Owns:  a worker's port, until it is told to stop.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from cubbyhole.core.entries import Result

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from cubbyhole.channels.base import Channel, WorkerPort

STOP = b"stop"
HEAD_BYTES = 16  # what an acknowledgement repeats of the body's head and tail
_BATCH = 64


def serve(channel: Channel, index: int, mode: str, ready: Connection) -> None:
    """Answer entries until one says stop.

    Modes: `echo` publishes the body that came; `array` reads it as float32 and publishes the array; `ack` reads head
    and tail of a large body and publishes these.
    """
    port = channel.worker(index, 0)
    answer = {"echo": _echo, "array": _array, "ack": _ack}[mode]
    ready.send_bytes(b"ready")
    going = True
    while going:
        for entry in port.claim(_BATCH, 1.0):
            if len(memoryview(entry.body)) == len(STOP) and bytes(entry.body) == STOP:
                port.publish(entry, Result(b""))
                going = False
            else:
                answer(port, entry)
    port.close()
    ready.send_bytes(b"ended")


def _echo(port: WorkerPort, entry: Any) -> None:
    port.publish(entry, Result(entry.body))


def _array(port: WorkerPort, entry: Any) -> None:
    import numpy as np

    array = np.frombuffer(entry.body, np.float32)
    port.publish(
        entry, Result(array.data, meta=b"\x93\xa3<f4\x91\xcd\x04\x00")
    )  # dtype and shape, as MessagePack


def _ack(port: WorkerPort, entry: Any) -> None:
    view = memoryview(entry.body).cast("B")
    port.publish(entry, Result(bytes(view[:HEAD_BYTES]) + bytes(view[-HEAD_BYTES:])))


def look(channel: Channel, request_id: int, rounds: int, answer: Connection) -> None:
    """Read one entry from a process that is neither front nor worker; send microseconds for each look."""
    finder = getattr(channel, "find", None)

    def once() -> bool:
        if finder is not None:
            return finder(request_id) is not None
        return any(entry.id == request_id for entry in channel.snapshot())

    seen = once()
    begun = time.perf_counter()
    for _ in range(rounds):
        once()
    answer.send((seen, 1e6 * (time.perf_counter() - begun) / rounds))
