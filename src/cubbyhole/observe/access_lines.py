# SPDX-License-Identifier: Apache-2.0
"""Lines of the access log: many at once where our own handler writes them, else a `LogRecord` each.

The two ways write the same (a test compares them). A record costs 20 to 50 us of the interpreter that also runs the event loop, a line
made from `Notes` a hundredth of that, and the interpreter goes on meanwhile.

Flow:  front/access.py -> Notes -> **write_lines** -> the stream of our handler | logging
Owns:  nothing.
See:   observe/log.py, docs/guide/logs.md
"""

from __future__ import annotations

import logging
import os
import re
import time
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import msgspec

from cubbyhole.core.clock import now_ns
from cubbyhole.observe.log import DATE_FORMAT, UTC_FORMAT, JsonFormatter, LineFormatter

if TYPE_CHECKING:
    from cubbyhole.observe.notes import Answered, Notes

_EVENT = "request: method=%s path=%s status=%d duration_ms=%.3f bytes=%d client=%s request_id=%s"


def write_lines(logger: logging.Logger, notes: Notes) -> None:
    """Write a line for each request that is in `notes` now, and take it out: waits for whoever takes them.

    Args:
        logger: Whose lines they are.
        notes: In the order in which they ended.
    """
    handler = sole_handler(logger)
    if handler is None or not logger.isEnabledFor(logging.INFO):
        for one in notes.take():
            logger.info(_EVENT, *_values(one))
        return
    stamp_ns = time.time_ns() - now_ns()
    json = type(handler.formatter) is JsonFormatter
    parts = _json_parts(logger.name, os.getpid()) if json else _text_parts(logger.name)
    clock, escape = (UTC_FORMAT, _json_word) if json else (DATE_FORMAT, _shown)
    # Not what is noted meanwhile: to make and to write a few lines takes the interpreter from the event loop as often as thousands do.
    left = len(notes)
    while left > 0 and (text := notes.make(parts, stamp_ns, clock.encode(), json, escape)):
        _write(logger, handler, text)
        left -= text.count("\n")


def _write(logger: logging.Logger, handler: logging.StreamHandler[Any], text: str) -> None:
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
        _shown(method),
        _shown(path),
        status,
        took_ns // 1000 / 1000,
        size,
        "-" if client is None else f"{_shown(client[0])}:{client[1]}",
        _shown(name) if name else "-",
    )


@lru_cache(maxsize=4)
def _json_parts(name: str, process: int) -> tuple[bytes, ...]:
    """What stands around the values in a line of JSON, in the order in which `JsonFormatter` has them."""
    about = {"level": "info", "logger": name, "process": process, "event": "request"}
    fixed = msgspec.json.encode(about)[1:-1]
    return (
        b'{"time":"',
        b'Z",' + fixed + b',"method":"',
        b'","path":"',
        b'","status":',
        b',"duration_ms":',
        b',"bytes":',
        b',"client":"',
        b'","request_id":"',
        b'"}\n',
    )


@lru_cache(maxsize=4)
def _text_parts(name: str) -> tuple[bytes, ...]:
    """What stands around the values in a line as `LineFormatter` has it."""
    inner = re.split(r"%\.?\d*[sdf]", _EVENT)
    return (
        b"",
        f" INFO     {name}  {inner[0]}".encode(),
        *(part.encode() for part in inner[1:-1]),
        b"\n",
    )


def _json_word(word: str) -> str:
    return msgspec.json.encode(_shown(word)).decode()[1:-1]


def _shown(word: str) -> str:
    """A path or an id as one word: the client chose it, and might have put a line break into it."""
    if word.isprintable() and " " not in word:
        return word
    return "".join(one if one.isprintable() and one != " " else f"%{ord(one):02X}" for one in word)
