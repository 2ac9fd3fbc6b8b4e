# SPDX-License-Identifier: Apache-2.0
"""Record formats: one event a line, whatever is in it, with the request's id."""

from __future__ import annotations

import json
import logging
import os
import sys
from typing import TYPE_CHECKING, Any, cast

import msgspec
import pytest

from cubbyhole.core.current import SHOWN_IDS, current_request_ids, set_current
from cubbyhole.core.entries import RequestMeta
from cubbyhole.observe import log
from cubbyhole.observe.log import JsonFormatter, LineFormatter

if TYPE_CHECKING:
    from collections.abc import Iterator


class Entry:
    """As much of a claimed entry as a log record needs."""

    def __init__(self, id: int, meta: RequestMeta | None = None) -> None:  # noqa: A002
        self.id = id
        self.meta = b"" if meta is None else msgspec.msgpack.encode(meta)


def become_current(*entries: Entry) -> None:
    set_current(cast("Any", entries if len(entries) > 1 else entries[0]))


@pytest.fixture(autouse=True)
def marked() -> Iterator[None]:
    before = logging.getLogRecordFactory()
    log._mark_records()
    yield
    set_current(None)
    logging.setLogRecordFactory(before)


def record(name: str, message: str, *args: Any, error: bool = False) -> logging.LogRecord:
    problem = sys.exc_info() if error else None
    return logging.getLogRecordFactory()(name, logging.WARNING, __file__, 1, message, args, problem)


def as_json(one: logging.LogRecord) -> dict[str, Any]:
    line = JsonFormatter().format(one)
    assert "\n" not in line
    found: dict[str, Any] = json.loads(line)
    return found


def as_line(one: logging.LogRecord) -> str:
    return LineFormatter(log.FORMAT, log.DATE_FORMAT).format(one)


def test_json_splits_our_events_into_typed_values() -> None:
    found = as_json(
        record("cubbyhole.x", "worker replaced: worker=%d reason=%s wait_s=%.1f", 3, "exit:1", 0.25)
    )
    assert found["event"] == "worker replaced"
    assert (found["worker"], found["reason"], found["wait_s"]) == (3, "exit:1", 0.25)
    assert found["level"] == "warning"
    assert found["process"] == os.getpid()
    assert found["time"].endswith("Z")


def test_json_splits_values_that_are_several_pairs() -> None:
    found = as_json(
        record("cubbyhole.x", "%s ready: pid=%d %s", "worker", 7, "endpoint=/a device=cpu")
    )
    assert (found["event"], found["pid"]) == ("worker ready", 7)
    found = as_json(
        record("cubbyhole.x", "worker recycled: pid=%d %s", 7, "endpoint=/a device=cpu")
    )
    assert found["event"] == "worker recycled"
    assert (found["pid"], found["endpoint"], found["device"]) == (7, "/a", "cpu")


def test_json_takes_a_users_message_as_it_is() -> None:
    found = as_json(record("model", "a=%s: b=%d\nnext line", "x", 2))
    assert found["event"] == "a=x: b=2\nnext line"
    assert "request_id" not in found


def test_json_keeps_a_traceback_in_its_line() -> None:
    try:
        int("two\nlines", 36)
    except ValueError:
        found = as_json(record("cubbyhole.x", "request failed: path=%s", "/predict", error=True))
    assert "ValueError: invalid literal" in found["exception"]
    assert found["path"] == "/predict"


def test_json_shows_extra_attributes_and_never_fails_on_a_value() -> None:
    one = record("model", "loaded")
    one.weights = object()
    one.seconds = 2
    found = as_json(one)
    assert found["seconds"] == 2
    assert found["weights"].startswith("<object")


def test_a_line_break_in_a_message_does_not_make_a_second_event() -> None:
    line = as_line(record("model", "%s", "one\r\n18:00:00 ERROR forged"))
    assert "\n" not in line
    assert "\\n18:00:00" in line


def test_the_request_of_the_running_hook_is_in_every_record() -> None:
    become_current(Entry(7))
    assert as_line(record("model", "hello")).endswith("  hello request_id=7")
    assert as_json(record("model", "hello"))["request_id"] == "7"
    set_current(None)
    assert as_line(record("model", "hello")).endswith("  hello")


def test_a_clients_id_and_trace_come_first() -> None:
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    become_current(Entry(7, RequestMeta(request_id="order-17", traceparent=parent)))
    found = as_json(record("model", "hello"))
    assert found["request_id"] == "order-17"
    assert found["trace_id"] == "0af7651916cd43dd8448eb211c80319c"
    line = as_line(record("cubbyhole.x", "request failed: request_id=%s", "order-17"))
    assert line.count("order-17") == 1


def test_a_batch_names_its_first_requests() -> None:
    become_current(*(Entry(number) for number in range(20)))
    ids = current_request_ids().split(",")
    assert ids == [*(str(number) for number in range(SHOWN_IDS)), "..."]


def test_records_have_the_attribute_also_outside_of_requests() -> None:
    formatter = logging.Formatter("%(request_id)s|%(message)s")
    assert formatter.format(record("model", "hello")) == "|hello"


def test_marking_twice_marks_once() -> None:
    factory = logging.getLogRecordFactory()
    log._mark_records()
    assert logging.getLogRecordFactory() is factory


def test_an_unknown_format_says_which_there_are() -> None:
    with pytest.raises(ValueError, match="text, json"):
        log.check_format("xml")
