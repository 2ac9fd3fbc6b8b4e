# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import select
import threading
from typing import TYPE_CHECKING

from cubbyhole.channels.base import ChannelSettings
from cubbyhole.channels.sockets import SocketChannel
from cubbyhole.core.entries import RequestEntry, Result

if TYPE_CHECKING:
    from cubbyhole.core.entries import Collected


def _answer(channel: SocketChannel, count: int) -> None:
    port = channel.worker(0, 0)
    while count:
        for entry in port.claim(4, 5.0):
            port.publish(entry, Result(entry.body))
            count -= 1
    port.close()


def test_a_request_comes_back_over_a_socket() -> None:
    channel = SocketChannel.create(ChannelSettings())
    front = channel.front(0)
    worker = threading.Thread(target=_answer, args=(channel, 2))
    worker.start()
    bodies = {1: b"small", 2: bytes(range(256)) * 4096}
    for number, body in bodies.items():
        front.submit(RequestEntry(number, 0, body))
    collected: list[Collected] = []
    ready = select.poll()
    ready.register(front.fileno(), select.POLLIN)
    while len(collected) < 2 and ready.poll(5000):
        collected += front.collect()
    worker.join()
    for item in collected:
        assert isinstance(item.outcome, Result)
        assert item.outcome.body == bodies[item.id]
    assert channel.statistics().published_total == 2
    front.close()
    channel.close()
