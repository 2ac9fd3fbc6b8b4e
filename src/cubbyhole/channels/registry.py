# SPDX-License-Identifier: Apache-2.0
"""Name -> import path of each channel. A channel is a module-level class with `create(ChannelSettings) -> Channel`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from cubbyhole.channels.base import Channel, ChannelSettings

CHANNELS = {
    "shm": "cubbyhole.channels.shm:SharedMemoryChannel",
    "sockets": "cubbyhole.channels.sockets:SocketChannel",
    "pipes": "cubbyhole.channels.pipes:PipeChannel",
    "manager": "cubbyhole.channels.manager:ManagedDictChannel",
    "zmq": "cubbyhole.channels.zmq:ZmqChannel",
}


def create_channel(kind: str, settings: ChannelSettings) -> Channel:
    """Make the channel called `kind`.

    Raises:
        ValueError: no such channel.
        NativeCoreMissing: "shm" without its compiled core.
    """
    path = CHANNELS.get(kind)
    if path is None:
        raise ValueError(f"There is no channel {kind!r}. Choose one of: {', '.join(CHANNELS)}.")
    module, _, name = path.partition(":")
    channel_class = getattr(import_module(module), name)
    return cast("Channel", channel_class.create(settings))
