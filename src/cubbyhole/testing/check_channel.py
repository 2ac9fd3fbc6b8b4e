# SPDX-License-Identifier: Apache-2.0
"""The contract of `channels.base` as a suite that runs over any channel, ours or yours.

With pytest:

    @pytest.mark.parametrize("check", channel_checks(), ids=str)
    def test_my_channel_keeps_the_contract(check: ChannelCheck) -> None:
        check.run(MyChannel.create)

Without:

    check_channel(MyChannel.create)

Every check makes a channel of its own, drives fronts on an event loop and workers in threads or real processes, and closes
all of it. A channel that needs the front's event loop to hand entries out is as good as one that does not.

Flow:  check_channel -> ChannelCheck.run -> Stage -> the channel
Owns:  nothing.
See:   channels/base.py (the contract), testing/channel_checks_*.py (the checks)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from cubbyhole.testing.channel_checks_carry import CARRY_CHECKS
from cubbyhole.testing.channel_checks_death import DEATH_CHECKS
from cubbyhole.testing.channel_checks_fence import FENCE_CHECKS
from cubbyhole.testing.channel_checks_life import LIFE_CHECKS
from cubbyhole.testing.channel_checks_limits import LIMIT_CHECKS
from cubbyhole.testing.channel_checks_operate import OPERATE_CHECKS, OPERATE_PROCESS_CHECKS
from cubbyhole.testing.channel_stage import ContractBroken, Stage

if TYPE_CHECKING:
    from collections.abc import Callable

    from cubbyhole.testing.channel_stage import CreateChannel

__all__ = ["ChannelCheck", "ContractBroken", "channel_checks", "check_channel"]


class ChannelCheck(msgspec.Struct, frozen=True):
    """One claim about a channel.

    Attributes:
        name: The claim, as an identifier.
        act: Raises `ContractBroken` if the claim is false.
        processes: Whether it needs real processes, so a channel that pickles.
    """

    name: str
    act: Callable[[Stage], None]
    processes: bool

    def __str__(self) -> str:
        return self.name

    def run(self, create: CreateChannel) -> None:
        """Check the claim on a new channel from `create(ChannelSettings)`.

        Raises:
            ContractBroken: the claim is false; the text says what was expected and what was seen.
        """
        stage = Stage(create)
        try:
            self.act(stage)
        finally:
            stage.close()


def channel_checks(*, processes: bool = True) -> list[ChannelCheck]:
    """Return all checks; without `processes` those that need no second process."""
    checks = [
        ChannelCheck(act.__name__, act, processes=False)
        for act in (*CARRY_CHECKS, *LIMIT_CHECKS, *LIFE_CHECKS, *FENCE_CHECKS, *OPERATE_CHECKS)
    ]
    if processes:
        checks += [
            ChannelCheck(act.__name__, act, processes=True)
            for act in (*DEATH_CHECKS, *OPERATE_PROCESS_CHECKS)
        ]
    return checks


def check_channel(create: CreateChannel, *, processes: bool = True) -> None:
    """Run every check, and report all that failed.

    Raises:
        ContractBroken: with one line for each claim that is false.
    """
    broken = []
    for check in channel_checks(processes=processes):
        try:
            check.run(create)
        except ContractBroken as error:  # noqa: PERF203
            broken.append(f"{check.name}: {error}")
    if broken:
        raise ContractBroken("\n".join(broken))
