# SPDX-License-Identifier: Apache-2.0
"""Every channel of the registry, and the one for tests, against every rule of the contract."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from cubbyhole.channels.base import Capabilities, ChannelSettings
from cubbyhole.channels.registry import CHANNELS, create_channel
from cubbyhole.core.errors import NativeCoreMissing
from cubbyhole.testing.check_channel import ChannelCheck, ContractBroken, channel_checks
from cubbyhole.testing.memory_channel import MemoryChannel

if TYPE_CHECKING:
    from cubbyhole.channels.base import Channel

# Some start several processes, on machines that do other things too.
pytestmark = pytest.mark.timeout(60)


class _Recorded:
    """Makes channels of one kind and remembers their classes: which channel carried the entries."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.made: list[type[Any]] = []

    def __call__(self, settings: ChannelSettings) -> Channel:
        channel = create_channel(self.kind, settings)
        self.made.append(type(channel))
        return channel


@pytest.fixture(scope="module", params=list(CHANNELS))
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    try:
        create_channel(name, ChannelSettings(slots=2, arena_bytes=1 << 20)).close()
    except NativeCoreMissing as error:
        pytest.skip(f"the native core is not built: {error}")
    except ModuleNotFoundError as error:
        if error.name != "zmq":
            raise
        pytest.skip(f"pyzmq is not installed: {error}")
    return name


@pytest.mark.parametrize("check", channel_checks(), ids=str)
def test_channel_keeps_the_contract(kind: str, check: ChannelCheck) -> None:
    create = _Recorded(kind)
    check.run(create)
    assert {f"{made.__module__}:{made.__name__}" for made in create.made} == {CHANNELS[kind]}


# It holds references, so there is no arena that could be full.
_MEMORY_CHECKS = [
    check
    for check in channel_checks(processes=False)
    if check.name != "no_room_is_channel_full_at_once"
]


@pytest.mark.parametrize("check", _MEMORY_CHECKS, ids=str)
def test_memory_channel_keeps_the_contract(check: ChannelCheck) -> None:
    """Tests of fronts and workers stand on it, so it has to keep what the real ones keep."""
    check.run(MemoryChannel.create)


# What a channel declares, and the check that must find a false declaration out, in either direction.
_DECLARED = {
    "zero_copy": "copies_are_as_declared",
    "ranks": "the_smallest_rank_is_claimed_first",
    "credit": "a_writer_without_a_reader_stops",
    "visible": "entries_are_seen_as_declared",
    "cancels_queued": "a_cancelled_unclaimed_entry_is_never_seen",
    "in_place": "copies_are_as_declared",
    "operated": "an_operator_takes_a_waiting_entry_back",
    "history": "what_is_over_is_counted_as_declared",
}


class _Lying:
    """A channel that declares the opposite of one thing that it can or cannot do."""

    def __init__(self, channel: Channel, declared: str) -> None:
        self._channel = channel
        truth = getattr(channel.capabilities, declared)
        self.capabilities = msgspec.structs.replace(channel.capabilities, **{declared: not truth})

    def __getattr__(self, name: str) -> Any:
        return getattr(self._channel, name)


@pytest.mark.parametrize("declared", Capabilities.__struct_fields__)
def test_a_false_declaration_is_found_out(kind: str, declared: str) -> None:
    """A channel that says it cannot rank must be seen not to; one that says it can, to do it."""

    def create(settings: ChannelSettings) -> Any:
        return _Lying(create_channel(kind, settings), declared)

    [check] = [c for c in channel_checks(processes=False) if c.name == _DECLARED[declared]]
    with pytest.raises(ContractBroken):
        check.run(create)


def test_every_channel_says_its_own_name(kind: str) -> None:
    channel = create_channel(kind, ChannelSettings(slots=2, arena_bytes=1 << 20))
    try:
        assert (channel.kind, channel.statistics().kind) == (kind, kind)
    finally:
        channel.close()


def test_an_unknown_channel_is_refused_with_the_names_of_those_there_are() -> None:
    with pytest.raises(ValueError, match="shm, sockets, pipes, manager, zmq"):
        create_channel("carrier pigeon", ChannelSettings())
