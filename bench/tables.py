# SPDX-License-Identifier: Apache-2.0
"""Runs -> medians -> tables: the package's, and the table of targets."""

from __future__ import annotations

from typing import Any

from cubbyhole.measuring.tables import cell, failures, grid, number, summarize

__all__ = ["cell", "failures", "grid", "number", "summarize", "verdict_table"]


def verdict_table(verdicts: list[dict[str, Any]], *, markdown: bool = False) -> str:
    """Write the verdicts as a table."""
    rows = [
        [
            v["text"],
            f"{number(v['value'])} {v['unit']}",
            f"{v['sign']} {number(v['limit'])} {v['unit']}",
            "ok" if v["reached"] else "missed",
        ]
        for v in verdicts
    ]
    return grid(["target", "measured", "limit", ""], rows, markdown=markdown)
