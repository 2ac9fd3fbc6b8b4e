# SPDX-License-Identifier: Apache-2.0
"""Lines of the access log made in bulk are those that logging would have made."""

from __future__ import annotations

import io
import json
import logging
import re

import pytest

from cubbyhole.core.clock import now_ns
from cubbyhole.observe.access_lines import Answered, sole_handler, write_lines
from cubbyhole.observe.log import DATE_FORMAT, FORMAT, JsonFormatter, LineFormatter

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


def noted() -> list[Answered]:
    at_ns = now_ns()
    return [
        (at_ns, 1_234_567, "POST", "/predict", 200, 17, ("127.0.0.1", 54388), b"order-17"),
        (at_ns, 999, "GET", '/a b\nc"\\', 404, 0, None, b""),
        (at_ns, 5_000_000_000, "POST", "/\ud800\u00e9\u4e2d", 0, 1 << 40, ("::1", 1), b"\xe9 \x85"),
    ]


def test_a_line_made_in_bulk_is_the_one_that_logging_makes(logger: logging.Logger) -> None:
    write_lines(logger, noted())
    ours = written(logger)
    # A filter that lets everything through may look at records: then there have to be some.
    logger.addFilter(lambda _record: True)
    assert sole_handler(logger) is None
    write_lines(logger, noted())
    logging_s = written(logger)
    assert len(ours) == len(logging_s) == len(noted())
    for one, other in zip(ours, logging_s, strict=True):
        if one.startswith("{"):
            first, second = json.loads(one), json.loads(other)
            assert list(first) == list(second)
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", first.pop("time"))
            del second["time"]
            assert first == second
        else:
            when = re.compile(r"\d\d:\d\d:\d\d\.\d{3} ")
            assert when.match(one)
            assert when.sub("", one, 1) == when.sub("", other, 1)


def test_a_line_says_when_its_request_ended(logger: logging.Logger) -> None:
    first, second = noted()[0], noted()[1]
    write_lines(logger, [first, (first[0] + 2_000_000, *second[1:])])
    earlier, later = (
        int(re.findall(r":(\d\d\.\d{3})", line)[0].replace(".", "")) for line in written(logger)
    )
    assert (later - earlier) % 60_000 == 2


def test_a_level_above_info_writes_nothing(logger: logging.Logger) -> None:
    logger.setLevel(logging.WARNING)
    write_lines(logger, noted())
    assert written(logger) == []


@pytest.mark.parametrize("logger", ["json"], indirect=True)
def test_who_else_listens_gets_records(logger: logging.Logger) -> None:
    seen: list[logging.LogRecord] = []

    class Other(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(record)

    logger.addHandler(Other())
    write_lines(logger, noted())
    assert next(record.args[1] for record in seen if isinstance(record.args, tuple)) == "/predict"
    assert len(written(logger)) == len(seen) == len(noted())
