# SPDX-License-Identifier: Apache-2.0
"""The record formats, applied only by `LitServer.run()` and the command line: the library configures nothing on import.

One event a line, then key=value pairs with their units, or the same as JSON:
    18:25:01.342 WARNING  cubbyhole.supervise.pool  worker replaced: worker=3 pid=812 reason=signal:SIGKILL failed_entries=2
    {"time": "2026-11-25T18:25:01.342Z", "level": "warning", "logger": ..., "process": 801, "event": "worker replaced", "worker": 3, ...}

Every record has the attribute `request_id`, also those of user code, for formats of the user's own: the client's X-Request-ID or the
entry's id, of the request whose hooks run; of a batch all of them; empty elsewhere.

Flow:  any logger -> the record factory (request id) -> a handler -> **LineFormatter** | **JsonFormatter** -> stderr
Owns:  the record factory of a process in which `configure` was called.
See:   docs/guide/logs.md
"""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from typing import Any

from cubbyhole.core.current import current_request_ids, current_trace_id

FORMAT = "%(asctime)s.%(msecs)03d %(levelname)-8s %(name)s  %(message)s"
DATE_FORMAT = "%H:%M:%S"
UTC_FORMAT = "%Y-%m-%dT%H:%M:%S"
TRACE = 5  # uvicorn's level below DEBUG
FORMATS = ("text", "json", "pretty")

_PAIR = re.compile(r"(\w+)=(%(?:\.\d+)?[sdrfg])")
_WRITTEN = re.compile(r"(\w+)=(\S+)")
_ORDINARY = frozenset(vars(logging.makeLogRecord({}))) | {
    "asctime",
    "message",
    "request_id",
    "trace_id",
    "color_message",  # uvicorn's second copy of its message
    "taskName",
}


def level_number(level: str | int) -> int:
    """Return the number of a level's name, in any case; "trace" is uvicorn's.

    Raises:
        ValueError: no such level.
    """
    if isinstance(level, int):
        return level
    if level.lower() == "trace":
        return TRACE
    number = logging.getLevelName(level.upper())
    if not isinstance(number, int):
        raise ValueError(  # noqa: TRY004  the type is right, the word is not
            f"log_level is {level!r}. Choose one of: critical, error, warning, info, debug, trace."
        )
    return number


def check_format(log_format: str) -> str:
    """Return the format's name.

    Raises:
        ValueError: there is no such format.
    """
    if log_format not in FORMATS:
        raise ValueError(f"log_format is {log_format!r}. Choose one of: {', '.join(FORMATS)}.")
    return log_format


def configure(level: str | int = "info", log_format: str = "text") -> None:
    """Send Cubbyhole's records to stderr. Safe to repeat.

    Args:
        level: The least severe level to show.
        log_format: "text"; "pretty": through rich (colours, wrapped), where it is installed. Other loggers are left alone, but where
            nobody has set up logging, their warnings have our form, and so the request's id. "json":
            records of others, too, where nobody has set up the root logger, as a reader of JSON wants no other lines.

    Raises:
        ValueError: there is no such level or format.
    """
    check_format(log_format)
    _mark_records()
    root = logging.getLogger("cubbyhole")
    root.setLevel(level_number(level))
    for handler in list(root.handlers):
        root.removeHandler(handler)
    if log_format == "json":
        _take_over(level_number(level))
        root.propagate = True
        return
    root.addHandler(
        _rich_handler() if log_format == "pretty" else _handler(LineFormatter(FORMAT, DATE_FORMAT))
    )
    root.propagate = False


def _take_over(level: int) -> None:
    everything = logging.getLogger()
    if not everything.handlers or isinstance(everything.handlers[0].formatter, JsonFormatter):
        everything.handlers[:] = [_handler(JsonFormatter())]
        everything.setLevel(
            max(level, logging.INFO)
        )  # DEBUG is for ours: libraries have a lot to say
    logging.captureWarnings(capture=True)


class LineFormatter(logging.Formatter):
    """One line for an event, with the request's id at its end; a traceback follows on its own lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  (logging's name)
        """Return the line."""
        record.message = record.message.replace("\n", "\\n").replace("\r", "\\r")
        line = super().formatMessage(record)
        request_id = getattr(record, "request_id", "")
        return (
            f"{line} request_id={request_id}" if request_id and "request_id=" not in line else line
        )


class JsonFormatter(logging.Formatter):
    """One JSON object for an event, on one line, its traceback included. Values of key=value pairs keep their types."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        seconds, milliseconds = divmod(int(record.created * 1000), 1000)
        found: dict[str, Any] = {
            "time": f"{utc(seconds)}.{milliseconds:03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "process": record.process,
            **_event(record),
        }
        for name in ("request_id", "trace_id"):
            value = getattr(record, name, "")
            if value:
                found.setdefault(name, value)
        for name, value in vars(record).items():
            if name not in _ORDINARY:  # of logging's `extra`
                found.setdefault(name, value)
        if record.exc_info:
            found["exception"] = self.formatException(record.exc_info)
        return json.dumps(found, default=str, ensure_ascii=False)


def utc(seconds: int) -> str:
    """Return a time of day, in seconds since 1970, as ISO 8601 without its fraction and zone."""
    return time.strftime(UTC_FORMAT, time.gmtime(seconds))


def _event(record: logging.LogRecord) -> dict[str, Any]:
    """Split a record of ours into its event and its values; another's is an event as a whole."""
    if record.name.partition(".")[0] == "cubbyhole" and isinstance(record.args, tuple):
        event, _, rest = str(record.msg).partition(": ")
        names = [name for name, _ in _PAIR.findall(rest)]
        if "%" not in event and len(names) == len(record.args):
            return {"event": event, **dict(zip(names, record.args, strict=True))}
        event, _, rest = record.getMessage().partition(
            ": "
        )  # a value is several pairs, as a label is
        pairs = _WRITTEN.findall(rest)
        if pairs:
            return {"event": event} | {k: int(v) if v.isdecimal() else v for k, v in pairs}
    return {"event": record.getMessage()}


def _mark_records() -> None:
    """Have every new record of this process carry the id of its request."""
    make = logging.getLogRecordFactory()
    if getattr(make, "marks_requests", False):
        return

    def marked(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = make(*args, **kwargs)
        record.request_id = current_request_ids()
        record.trace_id = current_trace_id()
        return record

    marked.marks_requests = True  # type: ignore[attr-defined]
    logging.setLogRecordFactory(marked)


def _handler(formatter: logging.Formatter) -> logging.Handler:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    return handler


def _rich_handler() -> logging.Handler:
    try:
        from rich.console import Console
        from rich.logging import RichHandler
    except ImportError:
        return _handler(LineFormatter(FORMAT, DATE_FORMAT))
    handler = RichHandler(console=Console(stderr=True), show_path=False)
    handler.setFormatter(logging.Formatter("%(name)s  %(message)s"))
    return handler
