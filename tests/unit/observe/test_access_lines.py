# SPDX-License-Identifier: Apache-2.0
"""Lines of the access log made in bulk are those that logging would have made."""

from __future__ import annotations

import io
import json
import logging
import re
import sys
import threading
import time
from typing import Any

import pytest

from cubbyhole._native import _lines
from cubbyhole.core.clock import now_ns
from cubbyhole.observe.access_lines import sole_handler, write_lines
from cubbyhole.observe.log import DATE_FORMAT, FORMAT, JsonFormatter, LineFormatter
from cubbyhole.observe.notes import AT_ONCE, PlainNotes

MOST_BYTES = 8 << 20
FORMATTERS = {"json": JsonFormatter(), "text": LineFormatter(FORMAT, DATE_FORMAT)}


@pytest.fixture(params=FORMATTERS)
def logger(request: pytest.FixtureRequest) -> logging.Logger:
    """A logger that is in no tree, so that nobody else listens to it."""
    made = logging.Logger("cubbyhole.access", logging.INFO)  # noqa: LOG001  (not in the tree)
    handler = logging.StreamHandler(io.StringIO())
    handler.setFormatter(FORMATTERS[request.param])
    made.addHandler(handler)
    return made


def written(logger: logging.Logger) -> list[str]:
    handler = logger.handlers[0]
    assert isinstance(handler, logging.StreamHandler)
    lines = handler.stream.getvalue().splitlines()
    handler.setStream(io.StringIO())
    return list(lines)


CASES: list[tuple[str, str, int, int, Any, bytes, int]] = [
    ("POST", "/predict", 200, 17, ("127.0.0.1", 54388), b"order-17", 7),
    ("POST", "/predict", 200, 17, ("127.0.0.1", 54388), b"", (1 << 63) + 7),
    ("GET", '/a b\nc"\\', 404, 0, None, b"", 0),
    ("POST", "/\ud800\u00e9\u4e2d", 0, 1 << 40, ("::1", 1), b"\xe9 \x85", 0),
    ("PUT", "", 599, 9_999_999_999, ("unix:/a b", 0), b'"', 0),
]


@pytest.fixture(params=[_lines.Notes, PlainNotes], ids=["in C", "in Python"])
def kind(request: pytest.FixtureRequest) -> Any:
    """Each kind of notes."""
    return request.param


def noted(kind: Any, took_ns: int = 1_234_567) -> Any:
    notes = kind(MOST_BYTES)
    for method, path, status, size, client, name, number in CASES:
        scope = {"method": method, "path": path, "client": client}
        notes.note(scope, now_ns() - took_ns, status, size, name, number)
    return notes


def test_a_line_made_in_bulk_is_the_one_that_logging_makes(
    logger: logging.Logger, kind: Any
) -> None:
    write_lines(logger, noted(kind))
    ours = written(logger)
    # A filter that lets everything through may look at records: then there have to be some.
    logger.addFilter(lambda _record: True)
    assert sole_handler(logger) is None
    write_lines(logger, noted(kind))
    logging_s = written(logger)
    assert len(ours) == len(logging_s) == len(CASES)
    for one, other in zip(ours, logging_s, strict=True):
        if one.startswith("{"):
            first, second = json.loads(one), json.loads(other)
            assert list(first) == list(second)
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", first.pop("time"))
            del second["time"]
            took_ms = [each.pop("duration_ms") for each in (first, second)]
            assert first == second
        else:
            when, took = re.compile(r"^\d\d:\d\d:\d\d\.\d{3} "), re.compile(r"ms=(\d+\.\d{3}) ")
            assert when.match(one)
            took_ms = [float(took.findall(each)[0]) for each in (one, other)]
            first, second = (took.sub("", when.sub("", each)) for each in (one, other))
            assert first == second
        assert all(1.234 <= each < 1000 for each in took_ms)


def test_a_line_says_when_its_request_ended(logger: logging.Logger, kind: Any) -> None:
    before_ms = time.time() * 1e3
    notes = noted(kind)
    time.sleep(0.01)
    notes.note({"method": "GET", "path": "/"}, now_ns(), 200, 0)
    write_lines(logger, notes)
    after_ms = time.time() * 1e3
    ends = [
        int(re.findall(r":(\d\d\.\d{3})", line)[0].replace(".", "")) for line in written(logger)
    ]
    assert (ends[0] - int(before_ms)) % 60_000 <= after_ms - before_ms + 1
    assert 10 <= (ends[-1] - ends[0]) % 60_000 <= after_ms - before_ms + 1


GET = {"method": "GET", "path": "/predict", "client": ("127.0.0.1", 5)}


def test_more_lines_than_are_made_at_once_come_in_order(kind: Any, logger: logging.Logger) -> None:
    notes = kind(MOST_BYTES)
    for number in range(2 * AT_ONCE + 1):
        notes.note(GET, now_ns(), 200, number)
    assert len(notes) == 2 * AT_ONCE + 1
    write_lines(logger, notes)
    sizes = [int(re.findall(r'bytes"?[=:](\d+)', line)[0]) for line in written(logger)]
    assert sizes == list(range(2 * AT_ONCE + 1))
    assert len(notes) == 0


def test_what_has_no_room_is_counted_and_what_is_taken_makes_room(kind: Any) -> None:
    notes = kind(64 * 1024)
    for _ in range(1000):
        notes.note(GET, now_ns(), 200, 0)
    kept = len(notes)
    assert 64 * 1024 // 96 <= kept <= 64 * 1024 // 64
    assert notes.lost() == (1000 - kept, 0)
    assert notes.lost() == (0, 0)
    assert len(notes.take()) == kept
    notes.note(GET, now_ns(), 200, 0)
    assert len(notes) == 1
    notes.note(GET | {"path": "/" + "x" * 64 * 1024}, now_ns(), 200, 0)
    assert notes.lost() == (1, 0), "one that is too long for all the room"


def test_notes_hold_no_object_of_a_request(kind: Any) -> None:
    if kind is PlainNotes:
        pytest.skip("in Python there are objects")
    notes, path = kind(MOST_BYTES), "/" + "x" * 1000
    before = sys.getrefcount(path)
    notes.note({"method": "GET", "path": path}, now_ns(), 200, 0)
    assert sys.getrefcount(path) == before
    assert notes.take()[0][3] == path


ODD_SCOPES: list[dict[str, Any]] = [
    {"method": "GET"},
    {"method": "GET", "path": b"/bytes"},
    {"method": None, "path": "/"},
    {"method": "GET", "path": "/", "client": ("10.0.0.1", "no number")},
    {"method": "GET", "path": "/", "client": ("10.0.0.1",)},
    {"method": "GET", "path": "/", "client": (None, 1)},
    {"method": "GET", "path": "/", "client": 7},
]


@pytest.mark.parametrize("scope", ODD_SCOPES, ids=str)
def test_an_odd_scope_is_counted_and_costs_no_other_request(
    kind: Any, logger: logging.Logger, scope: dict[str, Any]
) -> None:
    notes = kind(MOST_BYTES)
    notes.note(GET, now_ns(), 200, 0)
    notes.note(scope, now_ns(), 200, 0)
    notes.note(GET, now_ns(), 200, 0)
    assert notes.lost() == (0, 1)
    write_lines(logger, notes)
    assert len(written(logger)) == 2


def test_words_that_are_escaped_may_be_long(kind: Any, logger: logging.Logger) -> None:
    notes, path = kind(MOST_BYTES), "/" + '\x01"' * 100_000
    for _ in range(3):
        notes.note(GET | {"path": path}, now_ns(), 200, 7, "\u00ff".encode("latin-1") * 50_000)
    write_lines(logger, notes)
    lines = written(logger)
    assert len(lines) == 3
    assert all(line.count("%01") == 100_000 for line in lines)
    assert all("\u00ff" * 50_000 in line for line in lines)


def test_noting_and_writing_at_the_same_time_lose_nothing(
    kind: Any, logger: logging.Logger
) -> None:
    notes, ended = kind(64 << 20), threading.Event()

    def write() -> None:
        while not ended.is_set():
            write_lines(logger, notes)

    thread = threading.Thread(target=write)
    thread.start()
    for number in range(20_000):
        notes.note(GET | {"path": f"/{number}"}, now_ns(), 200, 0)
    ended.set()
    thread.join()
    write_lines(logger, notes)
    paths = [int(re.findall(r'path"?[=:]"?/(\d+)', line)[0]) for line in written(logger)]
    assert paths == list(range(20_000))


def test_a_level_above_info_writes_nothing(logger: logging.Logger, kind: Any) -> None:
    logger.setLevel(logging.WARNING)
    write_lines(logger, noted(kind))
    assert written(logger) == []


@pytest.mark.parametrize("logger", ["json"], indirect=True)
def test_who_else_listens_gets_records(logger: logging.Logger, kind: Any) -> None:
    seen: list[logging.LogRecord] = []

    class Other(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(record)

    logger.addHandler(Other())
    write_lines(logger, noted(kind))
    assert next(record.args[1] for record in seen if isinstance(record.args, tuple)) == "/predict"
    assert len(written(logger)) == len(seen) == len(CASES)
