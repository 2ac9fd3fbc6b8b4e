# SPDX-License-Identifier: Apache-2.0
"""How many workers each endpoint has: between its least and its most, by the age of its queue, or as an operator says.

Every worker that there may be has its place from the beginning: a cell in the roster, a place in the channel. Those beyond the wanted
number are parked: no process, state ABSENT, and `/health` does not wait for them. Wanted are always the first ones of an endpoint, so
the last one started is the first to go; it is told by SIGTERM and finishes what it has claimed.

Flow:  Pool.turn -> **Scaler.turn** -> channel.snapshot() -> scheduling.scaling -> Pool starts or retires places
Owns:  the wanted number of each endpoint.
See:   docs/guide/operating.md
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from cubbyhole.scheduling.scaling import ScalingPolicy, Seen

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cubbyhole.channels.base import Channel
    from cubbyhole.core.roster import Roster
    from cubbyhole.core.settings import EndpointSettings, ServerSettings
    from cubbyhole.supervise.place import Place

logger = logging.getLogger(__name__)

LONGEST_LOOK_S = 1.0
SHORTEST_LOOK_S = 0.05
GAVE_UP_NS = 60_000_000_000  # a worker that could not start is not tried again sooner


class Endpoint:
    """One endpoint's places and how many of them are wanted."""

    def __init__(self, number: int, settings: EndpointSettings, server: ServerSettings) -> None:
        self.number = number
        self.path = settings.path
        self.least = settings.least_workers
        self.most = len(settings.workers)
        self.wanted = min(max(settings.first_workers or self.least, self.least), self.most)
        self.by_hand = False
        self.not_before_ns = 0
        self.places: list[Place] = []
        self.policy = ScalingPolicy(
            self.least, self.most, server.scale_up_after_s, server.scale_down_after_s
        )

    @property
    def scales(self) -> bool:
        """Whether the number follows the load."""
        return self.least < self.most and not self.by_hand


class Scaler:
    """The endpoints of one server.

    Args:
        settings: The server's.
        channel: What waits is seen in it, if it shows its entries.
        roster: Its cells say which workers readiness does not wait for.
    """

    def __init__(self, settings: ServerSettings, channel: Channel, roster: Roster) -> None:
        self._channel = channel
        self._roster = roster
        self._settings = settings
        self.endpoints = [
            Endpoint(number, one, settings) for number, one in enumerate(settings.endpoints)
        ]
        self._looked_ns = 0
        look_s = min(max(settings.scale_up_after_s / 4, SHORTEST_LOOK_S), LONGEST_LOOK_S)
        self.period_ns = int(look_s * 1e9)
        self._sees = True
        if any(one.scales for one in self.endpoints) and not channel.capabilities.visible:
            self._sees = False
            logger.warning(
                "workers do not follow the load: channel=%s shows no entries", channel.kind
            )

    def assign(self, workers: Sequence[Place]) -> None:
        """Learn the places of all workers, and park those that are not wanted at the start."""
        for place in workers:
            endpoint = self.endpoints[self._settings.worker_place(place.index)[0]]
            spare = len(endpoint.places) >= endpoint.least
            self._roster.set_optional(place.cell, optional=spare)
            endpoint.places.append(place)
            place.wanted = len(endpoint.places) <= endpoint.wanted
            place.parked = not place.wanted

    def set_wanted(self, path: str | None, workers: int) -> tuple[str, int, int]:
        """Have so many workers from now on, or (0) let the number follow the load again.

        Returns:
            The path, the number that was wanted so far, and the one that is wanted now.

        Raises:
            ValueError: no such endpoint, or a number that it cannot have.
        """
        known = ", ".join(one.path for one in self.endpoints)
        found = [one for one in self.endpoints if path in (None, one.path)]
        if len(found) != 1:
            what = "There are several APIs" if path is None else f"There is no API {path}"
            raise ValueError(f"{what}: choose one of {known} with --path.")
        (endpoint,) = found
        if not 0 <= workers <= endpoint.most:
            raise ValueError(
                f"{endpoint.path} can have 1 to {endpoint.most} workers, not {workers}. "
                "Start the server with a larger max_workers to have room for more."
            )
        before = endpoint.wanted
        endpoint.by_hand = workers > 0
        endpoint.wanted = workers or max(before, endpoint.least)
        endpoint.policy.forget()
        for number, place in enumerate(endpoint.places):
            needed = number < min(endpoint.least, endpoint.wanted)
            self._roster.set_optional(place.cell, optional=not needed)
        return endpoint.path, before, endpoint.wanted

    def turn(self, now_ns: int) -> list[Place]:
        """Look, if it is time; return the places whose process must be started or ended, with `wanted` set accordingly."""
        if now_ns - self._looked_ns >= self.period_ns and self._sees:
            self._looked_ns = now_ns
            if any(one.scales for one in self.endpoints):
                self._follow_load(now_ns)
        changed = []
        for endpoint in self.endpoints:
            for number, place in enumerate(endpoint.places):
                if place.wanted != (number < endpoint.wanted):
                    place.wanted = not place.wanted
                    place.parked = not place.wanted
                    changed.append(place)
        return changed

    def gives_up(self, place: Place, now_ns: int) -> bool:
        """Whether a worker that cannot start can be done without. Then it is not wanted any more, for a while."""
        endpoint = self.endpoints[self._settings.worker_place(place.index)[0]]
        if endpoint.places.index(place) < endpoint.least:
            return False
        endpoint.wanted = max(endpoint.least, min(endpoint.wanted, endpoint.places.index(place)))
        endpoint.not_before_ns = now_ns + GAVE_UP_NS
        return True

    def _follow_load(self, now_ns: int) -> None:
        entries = self._channel.snapshot()
        for endpoint in self.endpoints:
            if not endpoint.scales or now_ns < endpoint.not_before_ns:
                continue
            here = [entry for entry in entries if entry.endpoint == endpoint.number]
            ready_ns = [entry.ready_ns for entry in here if entry.state.upper() == "READY"]
            seen = Seen(
                max(1, now_ns - min(ready_ns)) if ready_ns else 0,
                len({entry.owner for entry in here if entry.owner >= 0}),
                any(place.wanted and not place.was_ready for place in endpoint.places),
            )
            before, endpoint.wanted = (
                endpoint.wanted,
                endpoint.policy.wanted(now_ns, endpoint.wanted, seen),
            )
            if before != endpoint.wanted:
                self._tell(endpoint, before, seen)

    @staticmethod
    def _tell(endpoint: Endpoint, before: int, seen: Seen) -> None:
        values: tuple[Any, ...] = (
            endpoint.path,
            before,
            endpoint.wanted,
            seen.oldest_wait_ns // 1_000_000,
            seen.running,
        )
        logger.info("workers scaled: endpoint=%s from=%d to=%d oldest_ms=%d busy=%d", *values)
