# SPDX-License-Identifier: Apache-2.0
"""Lines of the access log: many at once where our own handler writes them, else a `LogRecord` each.

The two ways write the same (a test compares them). A record costs 20 to 50 us of the interpreter that also runs the event loop, a line
made here 2 us.

Flow:  front/access.py -> **write_lines** -> the stream of our handler | logging
Owns:  nothing.
See:   observe/log.py, docs/guide/logs.md
"""

from __future__ import annotations

import logging
import os
import time
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from cubbyhole.core.clock import now_ns
from cubbyhole.observe.log import DATE_FORMAT, JsonFormatter, LineFormatter, utc

if TYPE_CHECKING:
    from collections.abc import Iterable

# When it ended (monotonic, ns), how long it took (ns), method, path, status, bytes of its body, the client's host and port, its id.
Answered: TypeAlias = tuple[int, int, str, str, int, int, "tuple[str, int] | None", bytes]

_EVENT = "request: method=%s path=%s status=%d duration_ms=%.3f bytes=%d client=%s request_id=%s"
_encode_lines = msgspec.json.Encoder().encode_lines


class Line(msgspec.Struct, gc=False):
    """A request as a line of JSON, in the order in which `JsonFormatter` has it."""

    time: str
    level: str
    logger: str
    process: int
    event: str
    method: str
    path: str
    status: int
    duration_ms: float
    bytes: int
    client: str
    request_id: str


def write_lines(logger: logging.Logger, noted: Iterable[Answered]) -> None:
    """Write a line for each answered request, if the logger's level lets it through.

    Args:
        logger: Whose lines they are.
        noted: In the order in which they ended.
    """
    if not logger.isEnabledFor(logging.INFO):
        return
    handler = sole_handler(logger)
    if handler is None:
        for one in noted:
            logger.info(_EVENT, *_values(one))
        return
    make = _as_json if type(handler.formatter) is JsonFormatter else _as_text
    text = make(logger.name, noted)
    handler.acquire()
    try:
        handler.stream.write(text)
        handler.flush()
    except Exception:  # noqa: BLE001  (a pipe nobody reads, a full disk: as logging has it)
        handler.handleError(logging.makeLogRecord({"name": logger.name, "msg": "access log"}))
    finally:
        handler.release()


def sole_handler(logger: logging.Logger) -> logging.StreamHandler[Any] | None:
    """Return the handler of ours that alone gets all of a logger's records as they are; None if anything else may see or change them."""
    if logger.filters:
        return None
    found: list[logging.Handler] = []
    at: logging.Logger | None = logger
    while at is not None:
        found += at.handlers
        at = at.parent if at.propagate else None
    if len(found) != 1:
        return None
    handler = found[0]
    if type(handler) is not logging.StreamHandler:
        return None
    ours = type(handler.formatter) in {JsonFormatter, LineFormatter}
    return handler if ours and not handler.filters and handler.level <= logging.INFO else None


def _values(one: Answered) -> tuple[str, str, int, float, int, str, str]:
    """A request's values, in the order of `_EVENT`."""
    _, took_ns, method, path, status, size, client, name = one
    return (
        method,
        _shown(path),
        status,
        round(took_ns / 1e6, 3),
        size,
        "-" if client is None else f"{client[0]}:{client[1]}",
        _shown(name.decode("latin-1")) if name else "-",
    )


def _as_json(name: str, noted: Iterable[Answered]) -> str:
    stamp_ns = time.time_ns() - now_ns()  # to be added to a monotonic time
    process = os.getpid()
    lines = [
        Line(
            _moment((stamp_ns + one[0]) // 1_000_000),
            "info",
            name,
            process,
            "request",
            *_values(one),
        )
        for one in noted
    ]
    return _encode_lines(lines).decode()


def _as_text(name: str, noted: Iterable[Answered]) -> str:
    stamp_ns = time.time_ns() - now_ns()  # to be added to a monotonic time
    return "".join(
        f"{_clock((stamp_ns + one[0]) // 1_000_000)} INFO     {name}  {_EVENT % _values(one)}\n"
        for one in noted
    )


@lru_cache(maxsize=64)  # requests of the same millisecond come one after the other
def _moment(wall_ms: int) -> str:
    seconds, milliseconds = divmod(wall_ms, 1000)
    return f"{utc(seconds)}.{milliseconds:03d}Z"


@lru_cache(maxsize=64)
def _clock(wall_ms: int) -> str:
    seconds, milliseconds = divmod(wall_ms, 1000)
    return f"{time.strftime(DATE_FORMAT, time.localtime(seconds))}.{milliseconds:03d}"


def _shown(word: str) -> str:
    """A path or an id as one word: the client chose it, and might have put a line break into it."""
    if word.isprintable() and " " not in word:
        return word
    return "".join(one if one.isprintable() and one != " " else f"%{ord(one):02X}" for one in word)
