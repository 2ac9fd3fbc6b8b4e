# SPDX-License-Identifier: Apache-2.0
"""What the page may ask of the server: take a request back, or give it another priority.

Flow:  app.py -> **give_order** -> core/operations.py -> the supervisor's socket, which checks the user
Owns:  nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, TypeAlias

from cubbyhole.core.errors import CubbyholeError

if TYPE_CHECKING:
    from collections.abc import Callable

    # (address, "cancel" | "rerank", request id, priority) -> (done, what came of it)
    GiveOrder: TypeAlias = Callable[[str, str, int, int], tuple[bool, str]]

_OPERATIONS = "cubbyhole.core.operations"


def address_of(description: object) -> str:
    """Return where a server takes orders; empty: nowhere."""
    return str(getattr(description, "admin", ""))


def give_order(address: str, what: str, request_id: int, priority: int) -> tuple[bool, str]:
    """Ask, and wait for the answer, at most a few seconds."""
    operations = import_module(_OPERATIONS)
    wanted = (
        operations.Cancel(request_id)
        if what == "cancel"
        else operations.Rerank(request_id, priority)
    )
    try:
        done = operations.ask(address, wanted)
    except CubbyholeError as error:
        return False, str(error)
    return bool(done.ok), str(done.text)
