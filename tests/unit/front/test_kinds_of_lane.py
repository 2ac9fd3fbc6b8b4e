# SPDX-License-Identifier: Apache-2.0
"""What a lane is made of, by the options."""

from __future__ import annotations

from typing import Any

import pytest

from cubbyhole.core.settings import ServerSettings
from cubbyhole.front.handover import HandedMetaReader
from cubbyhole.front.lane import Lane
from cubbyhole.front.lanes import kind_of_lane
from cubbyhole.front.turnstile import LimitedLane


def names(**options: Any) -> list[str]:
    reader = options.pop("reader", None)
    by_http = options.pop("by_http", True)
    kind = kind_of_lane(ServerSettings(endpoints=(), **options), by_http=by_http, reader=reader)
    return [one.__name__ for one in kind.__mro__[:-1]]


def test_a_server_without_options_has_the_plain_lane() -> None:
    assert kind_of_lane(ServerSettings(endpoints=())) is Lane
    assert kind_of_lane(ServerSettings(endpoints=(), fair_shares=True)) is LimitedLane


def test_a_lane_with_spans_limits_keeps_and_reads_like_the_one_without() -> None:
    pytest.importorskip("opentelemetry.sdk", reason="needs cubbyhole[otel]")
    options: Any = {"max_queue_bytes": 1, "keep_requests_bytes": 1, "reader": HandedMetaReader}
    assert names(**options) == ["KeepingLane", "OtherLimitedLane", "LimitedLane", "Lane"]
    assert names(otel="", **options) == [
        *("TracedKeepingLane", "TracedLane"),
        *("KeepingLane", "OtherLimitedLane", "LimitedLane", "Lane"),
    ]


def test_what_does_not_come_by_http_is_not_kept() -> None:
    assert names(keep_requests_bytes=1) == ["KeepingLane", "Lane"]
    assert names(keep_requests_bytes=1, by_http=False) == ["Lane"]
