# SPDX-License-Identifier: Apache-2.0
"""What a lane is made of, by the options."""

from __future__ import annotations

from typing import Any

import pytest

from cubbyhole.core.settings import ServerSettings
from cubbyhole.front.lane import Lane
from cubbyhole.front.lanes import kind_of_lane
from cubbyhole.front.turnstile import LimitedLane


def names(**options: Any) -> list[str]:
    read_meta = options.pop("read_meta", None)
    by_http = options.pop("by_http", True)
    kind = kind_of_lane(
        ServerSettings(endpoints=(), **options), by_http=by_http, read_meta=read_meta
    )
    return [one.__name__ for one in kind.__mro__[:-1]]


def test_a_server_without_options_has_the_plain_lane() -> None:
    assert kind_of_lane(ServerSettings(endpoints=())) is Lane
    assert kind_of_lane(ServerSettings(endpoints=(), fair_shares=True)) is LimitedLane


def test_requests_without_spans_are_limited_kept_and_read_like_those_with_spans() -> None:
    pytest.importorskip("opentelemetry.sdk", reason="needs cubbyhole[otel]")
    from cubbyhole.front.tracing import TracedLane

    def read_meta(_scope: Any, _noted: Any) -> Any:
        return b"", None

    options: Any = {"otel": "", "max_queue_bytes": 1, "keep_requests_bytes": 1}
    kind = kind_of_lane(ServerSettings(endpoints=(), **options), read_meta=read_meta)
    assert issubclass(kind, TracedLane)
    assert not issubclass(kind.base, TracedLane)
    assert issubclass(kind.base, LimitedLane)
    assert kind.base.__name__ == "KeepingLane"
    assert kind.read_meta is kind.base.read_meta is read_meta


def test_what_does_not_come_by_http_is_not_kept() -> None:
    assert names(keep_requests_bytes=1) == ["KeepingLane", "Lane"]
    assert names(keep_requests_bytes=1, by_http=False) == ["Lane"]
