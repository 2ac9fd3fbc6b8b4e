# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import threading
from contextlib import closing

import pytest
from tests.conftest import poll_until

from cubbyhole.channels.base import ChannelSettings
from cubbyhole.channels.framing import Hello, Want, encoder
from cubbyhole.core.entries import RequestEntry, Result
from cubbyhole.testing.channel_stage import is_readable

zmq = pytest.importorskip("zmq")


def test_a_stranger_who_finds_the_address_is_given_nothing() -> None:
    from cubbyhole.channels.zmq import ZmqChannel

    encode = encoder()
    with (
        closing(ZmqChannel.create(ChannelSettings())) as channel,
        closing(channel.front(0)) as port,
    ):
        context = zmq.Context(1)
        stranger = context.socket(zmq.DEALER)
        stranger.setsockopt(zmq.LINGER, 0)
        stranger.connect(channel._address(0))
        stranger.send_multipart([encode(Hello(b"guess" * 3, 0, 1, 0)), b""])
        stranger.send_multipart([encode(Want(5, stay=False)), b""])
        stranger.send_multipart([b"\xc1 nonsense"])
        stranger.send_multipart([b"", b"", b""])
        port.submit(RequestEntry(1, 0, b"secret"))
        worker = channel.worker(0, 0)
        answered = 0
        for _ in range(200):
            port.collect()
            answered += stranger.poll(1)
        assert answered == 0
        assert not port.peers or list(port.peers) == [0]
        worker.close()
        stranger.close()
        context.term()


def test_what_came_while_a_front_was_sending_still_makes_its_descriptor_readable() -> None:
    """ZeroMQ's own descriptor is quiet again after any send, whatever waits."""
    from cubbyhole.channels.zmq import ZmqChannel

    with (
        closing(ZmqChannel.create(ChannelSettings(workers=2))) as channel,
        closing(channel.front(0)) as port,
        closing(channel.worker(0, 0)) as busy,
        closing(channel.worker(1, 0)) as idle,
    ):
        for number in range(1, 40, 2):
            port.submit(RequestEntry(number, 0, b"for the busy one"))
            entry = poll_until(lambda: (port.collect(), busy.claim(1, 0.0))[1])[0]
            waiting = threading.Thread(target=idle.claim, args=(1, 5.0))
            waiting.start()
            poll_until(lambda: port.collect() or any(peer.limit for peer in port.peers.values()))
            busy.publish(entry, Result(b"done"))
            assert is_readable(port.fileno(), 5.0)
            port.submit(RequestEntry(number + 1, 0, b"for the idle one"))  # is sent at once
            assert is_readable(port.fileno(), 5.0)
            poll_until(lambda number=number: any(x.id == number for x in port.collect()))  # type: ignore[misc]
            waiting.join()
