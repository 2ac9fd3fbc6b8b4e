# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from cubbyhole import places, wiring
from cubbyhole.channels.registry import create_channel
from cubbyhole.core.errors import NativeCoreMissing
from cubbyhole.core.settings import EndpointSettings, ServerSettings

if TYPE_CHECKING:
    from cubbyhole.channels.base import ChannelSettings


def settings(*workers: int) -> ServerSettings:
    endpoints = [
        EndpointSettings(path=f"/{n}", workers=("cpu",) * count) for n, count in enumerate(workers)
    ]
    return ServerSettings(endpoints=tuple(endpoints), slots=8, arena_bytes=1 << 20)


@pytest.mark.parametrize(
    ("workers", "cores", "fronts"),
    [((1,), 8, 1), ((2, 2), 8, 4), ((2, 2), 2, 2), ((64,), 8, 8), ((4,), 1, 1)],
)
def test_fronts_are_as_many_as_workers_but_not_more_than_cores(
    workers: tuple[int, ...], cores: int, fronts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wiring, "usable_cores", lambda: cores)
    assert wiring.choose_fronts(settings(*workers)) == fronts


def test_without_the_native_core_entries_go_over_sockets(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = create_channel

    def create(kind: str, sizes: ChannelSettings) -> Any:
        if kind == "shm":
            raise NativeCoreMissing("no compiler was here")
        return real(kind, sizes)

    monkeypatch.setattr(places, "create_channel", create)
    logging.getLogger("cubbyhole").propagate = True
    with caplog.at_level(logging.WARNING, "cubbyhole"):
        server: Any = SimpleNamespace(loggers=[])
        wire = places.open_wire(server, settings(1), 1)
    assert wire.channel.kind == wire.settings.channel == "sockets"
    assert "channel replaced: wanted=shm used=sockets reason=no compiler was here" in caplog.text
    wire.close()
