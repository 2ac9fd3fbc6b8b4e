# SPDX-License-Identifier: Apache-2.0
"""The record format, applied only by `LitServer.run()` and the command line: the library configures nothing on import.

One event, then key=value pairs with their units:
    WARNING cubbyhole.supervise.pool  worker replaced: worker=3 pid=812 reason=signal:SIGKILL failed_entries=2
"""

from __future__ import annotations

import logging
import sys

FORMAT = "%(asctime)s.%(msecs)03d %(levelname)-8s %(name)s  %(message)s"
DATE_FORMAT = "%H:%M:%S"
TRACE = 5  # uvicorn's level below DEBUG


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


def configure(level: str | int = "info", *, pretty: bool = False) -> None:
    """Send Cubbyhole's records to stderr; other loggers are left alone. Safe to repeat.

    Args:
        level: The least severe level to show.
        pretty: Through rich (colours, wrapped), where it is installed.
    """
    root = logging.getLogger("cubbyhole")
    root.setLevel(level_number(level))
    for handler in list(root.handlers):
        root.removeHandler(handler)
    root.addHandler(_rich_handler() if pretty else _plain_handler())
    root.propagate = False


def _plain_handler() -> logging.Handler:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(FORMAT, DATE_FORMAT))
    return handler


def _rich_handler() -> logging.Handler:
    try:
        from rich.console import Console
        from rich.logging import RichHandler
    except ImportError:
        return _plain_handler()
    handler = RichHandler(console=Console(stderr=True), show_path=False)
    handler.setFormatter(logging.Formatter("%(name)s  %(message)s"))
    return handler
