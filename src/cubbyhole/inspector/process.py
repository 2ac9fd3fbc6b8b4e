# SPDX-License-Identifier: Apache-2.0
"""The inspector as a child of the supervisor: its arguments, and where it begins.

Light on purpose: the supervisor imports this before its workers run, and the web stack only where the page is served.

Flow:  places.inspector_child -> spawned -> **run_inspector_process** -> main.py
Owns:  nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import socket


@dataclass
class InspectorArguments:
    """All that the process needs; it may be spawned, so all of it pickles.

    Attributes:
        pid: The server's supervisor; None: the only one there is, and its successors.
        sockets: Bound, not yet listening.
        key: What viewers must give; None: nothing.
        host: What the sockets are bound to; None: a Unix socket.
        payloads: Whether to show what requests carry.
        lifeline: Readable (end of file) when the supervisor that started us is gone; None: nobody did.
        log_level: Of uvicorn's records.
    """

    pid: int | None = None
    sockets: list[socket.socket] = field(default_factory=list)
    key: str | None = field(default=None, repr=False)
    host: str | None = "127.0.0.1"
    payloads: bool = False
    lifeline: Any = None
    log_level: str = "warning"


def run_inspector_process(arguments: InspectorArguments) -> None:
    """Be the inspector's process."""
    from cubbyhole.inspector.main import run_inspector

    run_inspector(arguments)
