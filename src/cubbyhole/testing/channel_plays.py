# SPDX-License-Identifier: Apache-2.0
"""What the processes of the checks do; module-level functions, so that they can be spawned.

Flow:  Stage.actor(play, ...) -> process -> play(channel, connection to the check, ...)
See:   testing/channel_checks_death.py
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from typing import TYPE_CHECKING

from cubbyhole.core.entries import Chunk, RequestEntry, Result
from cubbyhole.testing.channel_stage import claim, collect_until

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from cubbyhole.channels.base import Channel


def play_holder(channel: Channel, said: Connection, index: int, count: int) -> None:
    """Claim `count` entries and hold them until killed."""
    port = channel.worker(index, 0)
    held = claim(port, count)
    said.send([entry.id for entry in held])
    threading.Event().wait()


def play_idler(channel: Channel, said: Connection, index: int) -> None:
    """Wait in `claim` for an entry that never comes."""
    port = channel.worker(index, 0)
    said.send("waiting")
    while True:
        port.claim(1, 60.0)


def play_streamer(channel: Channel, said: Connection, index: int) -> None:
    """Publish two chunks and nothing more."""
    port = channel.worker(index, 0)
    entry = claim(port)[0]
    port.publish(entry, Chunk(b"one"))
    port.publish(entry, Chunk(b"two"))
    said.send("streaming")
    threading.Event().wait()


def play_echo(channel: Channel, said: Connection, index: int) -> None:
    """Answer with what came; ends at a body of b"end"."""
    port = channel.worker(index, 0)
    said.send("ready")
    body = b""
    while body != b"end":
        for entry in port.claim(4, 1.0):
            body = bytes(entry.body)
            port.publish(entry, Result(entry.body, 200, str(os.getpid()).encode()))
    said.recv()  # a worker that leaves at once might take its answer along
    port.close()
    channel.close()


def play_front(channel: Channel, said: Connection, index: int, first_id: int, count: int) -> None:
    """Submit `count` entries; tell what comes back, if it is told to collect."""
    port = channel.front(index)
    for number in range(first_id, first_id + count):
        port.submit(RequestEntry(number, 0, b"from a front"))
    said.send("submitted")
    answered = 0
    while (
        answered < count
    ):  # a front that collects runs its loop, which some channels need to hand out
        answered += len(collect_until(port, 1))
    said.send(answered)
    threading.Event().wait()


def play_everything(channel: Channel | None, said: Connection, create: object) -> None:
    """Be a whole server in one process, with its entries in every state."""
    from cubbyhole.channels.base import ChannelSettings

    del channel
    own: Channel = create(ChannelSettings(slots=64, arena_bytes=32 << 20))  # type: ignore[operator]
    front, worker = own.front(0), own.worker(0, 0)
    answering = threading.Thread(target=lambda: claim(worker), daemon=True)
    answering.start()
    front.submit(RequestEntry(1, 0, bytes(1 << 20)))
    front.submit(RequestEntry(2, 0, b"x"))
    while answering.is_alive():
        front.collect()
    said.send([child.pid for child in multiprocessing.active_children()])
    threading.Event().wait()
