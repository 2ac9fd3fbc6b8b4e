# SPDX-License-Identifier: Apache-2.0
"""A request as lines for a person, in units in which numbers are short; scripts take `--json`.

Flow:  entries.row | past.finished_row -> **fact_lines** -> `cubbyhole inspect`, the detail screen of `cubbyhole top`
Owns:  nothing.
"""

from __future__ import annotations

from typing import Any

NAME_CHARACTERS = 14  # "X-Request-ID" is the longest name, added by entries.py


def fact_lines(found: dict[str, Any]) -> list[str]:
    """Return a line for each thing that is known of a request."""
    over = found["state"] == "over"
    left_ms = found["deadline_left_ms"]
    facts = {
        "id": found["id"],
        "endpoint": found["endpoint"],
        "state": _state(found),
        "took" if over else "age": duration(found["age_ms"] / 1e3),
        "ended": f"{duration(found['ended_ago_s'])} ago"
        if over and "ended_ago_s" in found
        else None,
        "time left": None if left_ms is None else duration(left_ms / 1e3),
        "worker": worker_text(found),
        "try": found["attempt"] + 1,
        "front": found["front"],
        "request": size(found["request_bytes"]),
        "result": size(found["result_bytes"]),
        "chunks": found["chunks"] or None,
        "rank": found["rank"],
    }
    return [
        f"{name:<{NAME_CHARACTERS}}{value}" for name, value in facts.items() if value is not None
    ]


def _state(found: dict[str, Any]) -> str:
    state = str(found["state"])
    if "outcome" in found:
        return f"{state}: {found['outcome']}, status {found['status']}"
    return f"{state}, cancelled" if found["cancelled"] else state


def worker_text(found: dict[str, Any]) -> str:
    """Return who has a request: the worker, its process, and what the kernel says of that."""
    if found["worker"] is None:
        return "-"
    if found["worker_pid"] is None:
        return str(found["worker"])
    return f"{found['worker']} (pid {found['worker_pid']}, {found['worker_process']})"


def duration(seconds: float) -> str:
    """Return a time in the unit in which it is short."""
    if not seconds:
        return "0"
    for limit, factor, unit in ((1e-3, 1e6, "us"), (1.0, 1e3, "ms")):
        if abs(seconds) < limit:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds:.3g} s" if abs(seconds) < 1000 else f"{seconds:,.0f} s"


def size(number: float) -> str:
    """Return a number of bytes in the unit in which it is short."""
    for unit in ("B", "KiB", "MiB"):
        if number < 1024:
            return f"{number:.3g} {unit}" if number < 1000 else f"{number:.0f} {unit}"
        number /= 1024
    return f"{number:.3g} GiB"
