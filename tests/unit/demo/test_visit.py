# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from cubbyhole.demo.visit import Timing, parse_server_timing


def test_parts_keep_their_order_words_and_durations() -> None:
    header = 'ready;dur=0.25;desc="waiting, for a worker", other;dur=12'
    assert parse_server_timing(header) == [
        Timing("ready", "waiting, for a worker", 0.25),
        Timing("other", "other", 12.0),
    ]


def test_a_part_without_a_duration_is_left_out() -> None:
    assert parse_server_timing('miss, cache;desc="hit", db;dur=3') == [Timing("db", "db", 3.0)]


def test_no_header_has_no_timings() -> None:
    assert parse_server_timing("") == []


def test_the_servers_own_names_are_put_into_words() -> None:
    assert parse_server_timing("queue;dur=1") == [Timing("queue", "READY  waits for a worker", 1.0)]
