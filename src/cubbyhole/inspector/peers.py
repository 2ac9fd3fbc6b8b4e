# SPDX-License-Identifier: Apache-2.0
"""Whose process is at the other end of a connection over loopback, as the kernel's table of connections says.

A port on 127.0.0.1 is open to every user of the machine; a server's memory is not. So without a key the page asks, for each request,
whether it comes from a process of its own user (or of root, who may read everything anyway).

Flow:  guard.py -> **uid_of_peer**
Owns:  nothing.
"""

from __future__ import annotations

import socket
import struct
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
_UID = 7  # fields of a line: number, local, remote, state, queues, timer, retransmits, uid


def uid_of_peer(client: tuple[str, int], server: tuple[str, int]) -> int | None:
    """Return the uid that holds the other end of a connection; None: no process of this machine does, or the system does not say.

    Args:
        client: Address and port of the other end.
        server: Our own.
    """
    wanted = {(mine, other) for mine in _spelled(*client) for other in _spelled(*server)}
    for table in TABLES:
        try:
            lines = table.read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if (fields[1], fields[2]) in wanted:
                return int(fields[_UID])
    return None


def knows_peers() -> bool:
    """Return whether the system tells."""
    return sys.platform == "linux" and any(table.exists() for table in TABLES)


def _spelled(host: str, port: int) -> Iterator[str]:
    """An address as the tables have it: words of 32 bits in the machine's own order, as hexadecimal; also as IPv6 maps IPv4."""
    try:
        if ":" in host:
            packed = [socket.inet_pton(socket.AF_INET6, host)]
        else:
            four = socket.inet_pton(socket.AF_INET, host)
            packed = [four, b"\0" * 10 + b"\xff\xff" + four]
    except OSError:
        return
    for address in packed:
        words = struct.unpack(f"={len(address) // 4}I", address)
        yield "".join(f"{word:08X}" for word in words) + f":{port:04X}"
