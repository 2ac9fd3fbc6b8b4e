# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import itertools
import multiprocessing

import pytest
from tests.conftest import poll_until

from cubbyhole.channels.base import ChannelSettings
from cubbyhole.channels.manager import ManagedDictChannel
from cubbyhole.core.entries import RequestEntry
from cubbyhole.core.errors import ChannelClosed


def test_ports_say_that_the_managers_process_has_ended() -> None:
    """And nobody hangs in it: neither a thread of the front nor `close`."""
    before = set(multiprocessing.active_children())
    channel = ManagedDictChannel.create(ChannelSettings())
    (process,) = set(multiprocessing.active_children()) - before
    front, worker = channel.front(0), channel.worker(0, 0)
    process.kill()
    process.join()
    with pytest.raises(ChannelClosed, match="manager"):
        worker.claim(1, 0.1)
    ids = itertools.count(1)

    def is_told() -> bool:
        try:
            front.submit(RequestEntry(next(ids), 0, b"x"))
            front.collect()
        except ChannelClosed:
            return True
        return False

    poll_until(is_told)
    front.close()
    worker.close()
    channel.close()
