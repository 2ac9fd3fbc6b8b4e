# SPDX-License-Identifier: Apache-2.0
"""Lines of the access log made in bulk are those that logging would have made."""

from __future__ import annotations

import io
import json
import logging
import re
import sys
import time
from typing import Any

import pytest

from cubbyhole._native import _lines
from cubbyhole.core.clock import now_ns
from cubbyhole.observe.access_lines import make_lines, sole_handler, write_lines
from cubbyhole.observe.log import DATE_FORMAT, FORMAT, JsonFormatter, LineFormatter
from cubbyhole.observe.notes import AT_ONCE, PlainNotes

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


CASES: list[tuple[str, str, int, int, Any, bytes]] = [
    ("POST", "/predict", 200, 17, ("127.0.0.1", 54388), b"order-17"),
    ("GET", '/a b\nc"\\', 404, 0, None, b""),
    ("POST", "/\ud800\u00e9\u4e2d", 0, 1 << 40, ("::1", 1), b"\xe9 \x85"),
    ("PUT", "", 599, 9_999_999_999, ("unix:/a b", 0), b'"'),
]


@pytest.fixture(params=[_lines.Notes, PlainNotes], ids=["in C", "in Python"])
def kind(request: pytest.FixtureRequest) -> Any:
    """Each kind of notes."""
    return request.param


def noted(kind: Any, took_ns: int = 1_234_567) -> Any:
    notes = kind(nothing, nothing)
    for method, path, status, size, client, name in CASES:
        scope = {"method": method, "path": path, "client": client}
        notes.note(scope, now_ns() - took_ns, status, size, name)
    return notes


def nothing() -> None:
    pass


def test_a_line_made_in_bulk_is_the_one_that_logging_makes(
    logger: logging.Logger, kind: Any
) -> None:
    write_lines(logger, [make_lines(logger, noted(kind))])
    ours = written(logger)
    # A filter that lets everything through may look at records: then there have to be some.
    logger.addFilter(lambda _record: True)
    assert sole_handler(logger) is None
    write_lines(logger, [make_lines(logger, noted(kind))])
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
    write_lines(logger, [make_lines(logger, notes)])
    after_ms = time.time() * 1e3
    ends = [
        int(re.findall(r":(\d\d\.\d{3})", line)[0].replace(".", "")) for line in written(logger)
    ]
    assert (ends[0] - int(before_ms)) % 60_000 <= after_ms - before_ms + 1
    assert 10 <= (ends[-1] - ends[0]) % 60_000 <= after_ms - before_ms + 1


def test_notes_tell_when_there_is_something_and_when_there_is_no_more_room(kind: Any) -> None:
    told: list[str] = []
    notes: Any = kind(
        lambda: told.append("first"), lambda: told.append(f"full: {len(notes.take())}")
    )
    for _ in range(AT_ONCE + 1):
        notes.note({"method": "GET", "path": "/"}, now_ns(), 200, 0)
    assert told == ["first", f"full: {AT_ONCE}", "first"]
    assert len(notes) == 1


def test_what_nobody_takes_is_refused_and_what_is_noted_lives_as_long(kind: Any) -> None:
    notes = kind(nothing, nothing)
    path = "/" + "x" * 1000
    before = sys.getrefcount(path)
    for _ in range(AT_ONCE):
        notes.note({"method": "GET", "path": path}, now_ns(), 200, 0)
    with pytest.raises(BufferError):
        notes.note({"method": "GET", "path": path}, now_ns(), 200, 0)
    assert sys.getrefcount(path) == before + AT_ONCE
    taken = notes.take()
    assert len(taken) == AT_ONCE
    del taken
    assert sys.getrefcount(path) == before
    notes.note({"method": "GET", "path": path}, now_ns(), 200, 0)
    del notes
    assert sys.getrefcount(path) == before


def test_a_scope_without_a_path_is_no_request_and_notes_nothing(kind: Any) -> None:
    notes = kind(nothing, nothing)
    with pytest.raises(KeyError):
        notes.note({"method": "GET"}, 0, 200, 0)
    assert len(notes) == 0


def test_a_level_above_info_writes_nothing(logger: logging.Logger, kind: Any) -> None:
    logger.setLevel(logging.WARNING)
    write_lines(logger, [make_lines(logger, noted(kind))])
    assert written(logger) == []


@pytest.mark.parametrize("logger", ["json"], indirect=True)
def test_who_else_listens_gets_records(logger: logging.Logger, kind: Any) -> None:
    seen: list[logging.LogRecord] = []

    class Other(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(record)

    logger.addHandler(Other())
    write_lines(logger, [make_lines(logger, noted(kind))])
    assert next(record.args[1] for record in seen if isinstance(record.args, tuple)) == "/predict"
    assert len(written(logger)) == len(seen) == len(CASES)
