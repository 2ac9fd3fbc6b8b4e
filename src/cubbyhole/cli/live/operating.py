# SPDX-License-Identifier: Apache-2.0
"""The two things that the screen can change, asked of the supervisor; all else is read.

Flow:  app.py -> **cancel**, **rerank** -> core.operations.ask -> the supervisor
Owns:  nothing.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

ANSWER_S = 2.0  # a supervisor that hangs must not take the screen with it for longer
_OPERATIONS = "cubbyhole.core.operations"


def address_of(description: Any) -> str:
    """Return where a server's supervisor listens; empty: it takes no requests."""
    return str(getattr(description, "admin", "")) if find_spec(_OPERATIONS) is not None else ""


def cancel(address: str, request_id: int) -> str:
    """Have a request cancelled; return what came of it."""
    return _ask(address, "Cancel", request_id)


def rerank(address: str, request_id: int, priority: int) -> str:
    """Give a waiting request another class; return what came of it."""
    return _ask(address, "Rerank", request_id, priority)


def _ask(address: str, operation: str, *arguments: int) -> str:
    operations = import_module(_OPERATIONS)
    try:
        done = operations.ask(address, getattr(operations, operation)(*arguments), ANSWER_S)
    except Exception as error:  # noqa: BLE001  (the screen shows it and goes on)
        return f"not done: {error}"
    return done.text if done.ok else f"not done: {done.text}"
