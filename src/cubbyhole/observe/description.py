# SPDX-License-Identifier: Apache-2.0
"""What a server says of itself to whoever finds it from outside: a JSON text at the end of the roster.

Flow:  wiring.py -> **describe** -> roster -> seen/attached.py
Owns:  nothing.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

import msgspec

from cubbyhole import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cubbyhole.core.roster import Roster
    from cubbyhole.core.settings import ServerSettings


class WorkerPlace(msgspec.Struct, frozen=True):
    """Endpoint number and device of a worker."""

    endpoint: int
    device: str


class ServerDescription(msgspec.Struct, frozen=True, kw_only=True):
    """A server as it was started.

    Attributes:
        pid: Of the supervisor.
        version: Of Cubbyhole.
        started_s: Seconds since 1970.
        address: Where it listens, "host:port".
        channel: Its kind.
        segment: Inode of the channel's memory, which tells it from another server's; 0: not to be looked at.
        fronts, workers: How many, and where.
        endpoints: Their paths, in the order of their numbers.
        slots, arena_bytes: As in the settings.
        admin: Where its supervisor takes operations (`core.operations.ask`); empty: nowhere.
        kept: Inode of the memory with kept requests; 0: none are kept.
        redact, redact_folder: The hook for payloads that are shown, and where its module lies; empty: none.
    """

    pid: int
    version: str
    started_s: float
    address: str
    channel: str
    segment: int
    fronts: int
    workers: tuple[WorkerPlace, ...]
    endpoints: tuple[str, ...]
    slots: int
    arena_bytes: int
    admin: str = ""
    kept: int = 0
    redact: str = ""
    redact_folder: str = ""


def describe(
    roster: Roster,
    settings: ServerSettings,
    channel: Any,
    options: Mapping[str, Any],
    admin: str = "",
    kept: int = 0,
) -> ServerDescription:
    """Write into the roster what the server is, and return it.

    Args:
        roster: Where.
        settings: The server's.
        channel: Its channel.
        options: With its host and port.
        admin: Where operators ask.
        kept: Inode of the memory with kept requests.
    """
    places = [settings.worker_place(index) for index in range(settings.workers_total)]
    description = ServerDescription(
        pid=os.getpid(),
        version=__version__,
        started_s=time.time(),
        address=f"{options['host']}:{options['port']}",
        channel=channel.kind,
        segment=getattr(channel, "inode", 0),
        fronts=roster.fronts,
        workers=tuple(WorkerPlace(endpoint, device) for endpoint, _, device in places),
        endpoints=tuple(endpoint.path for endpoint in settings.endpoints),
        slots=settings.slots,
        arena_bytes=settings.arena_bytes,
        admin=admin,
        kept=kept,
        redact=settings.redact,
        redact_folder=settings.redact_folder,
    )
    roster.describe(msgspec.json.encode(description))
    return description
