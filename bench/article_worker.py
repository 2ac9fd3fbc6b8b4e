# SPDX-License-Identifier: Apache-2.0
"""The other processes of `python -m bench article`; spawned, so apart."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from cubbyhole.core.clock import now_ns
from cubbyhole.core.entries import Result
from cubbyhole.measuring.channel_worker import STOP

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from cubbyhole.channels.base import Channel


def nested(channel: Channel, index: int, ready: Connection) -> None:
    """Decode nested data and encode it again, as a worker does with a JSON body."""
    import msgspec

    port = channel.worker(index, 0)
    ready.send_bytes(b"ready")
    while True:
        for entry in port.claim(64, 1.0):
            if bytes(entry.body[:4] if hasattr(entry.body, "__getitem__") else entry.body) == STOP:
                port.publish(entry, Result(b""))
                port.close()
                return
            port.publish(entry, Result(msgspec.msgpack.encode(msgspec.msgpack.decode(entry.body))))


def serve_slowly(
    channel: Channel, index: int, endpoint: int, work_s: float, ready: Connection
) -> None:
    """Echo one entry after the other, `work_s` each."""
    port = channel.worker(index, endpoint)
    ready.send_bytes(b"ready")
    while True:
        for entry in port.claim(1, 1.0):
            if work_s:
                time.sleep(work_s)
            port.publish(entry, Result(bytes(entry.body)))


def serve_asked(channel: Channel, index: int, endpoint: int, ready: Connection) -> None:
    """Echo one entry after the other; each says in its body how many milliseconds it takes."""
    port = channel.worker(index, endpoint)
    ready.send_bytes(b"ready")
    while True:
        for entry in port.claim(1, 1.0):
            body = bytes(entry.body)
            time.sleep(int.from_bytes(body, "little") / 1e3)
            port.publish(entry, Result(body))


def hold(channel: Channel, index: int, says: Connection) -> None:
    """Claim an entry, say so, and never answer it."""
    port = channel.worker(index, 0)
    says.send_bytes(b"ready")
    while True:
        held = port.claim(1, 1.0)
        if held:
            says.send_bytes(b"claimed")
            time.sleep(60)


def onlook(channel: Channel, says: Connection) -> None:
    """Send what `snapshot()` shows to a process that is neither front nor worker."""
    says.send_bytes(b"ready")
    says.send(
        [
            f"id={e.id} state={e.state} worker={e.owner} bytes={e.request_bytes} "
            f"age={(now_ns() - e.ready_ns) // 1_000_000 if e.ready_ns else '?'}ms"
            for e in channel.snapshot()
        ]
    )
