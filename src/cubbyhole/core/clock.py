# SPDX-License-Identifier: Apache-2.0
"""Time inside Cubbyhole: monotonic nanoseconds, the same clock in every process of one host."""

from __future__ import annotations

from time import monotonic_ns as now_ns

# A deadline that does not come: the largest time that a signed 64-bit word holds.
NEVER_NS = 2**63 - 1


def deadline_after(timeout_s: float, start_ns: int) -> int:
    """Return the absolute deadline `timeout_s` seconds after `start_ns`; infinite or negative means never."""
    if timeout_s < 0 or timeout_s == float("inf"):
        return NEVER_NS
    return start_ns + int(timeout_s * 1e9)


__all__ = ["NEVER_NS", "deadline_after", "now_ns"]
