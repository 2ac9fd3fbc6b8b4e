# SPDX-License-Identifier: Apache-2.0
"""Runs -> medians -> tables. Plain text for a terminal, Markdown for docs.

Flow:  runs -> **summarize** -> **cell** -> **grid**
Owns:  nothing. Standard library only.
"""

from __future__ import annotations

from statistics import median
from typing import Any

# workload -> contender -> figure -> median, min, max, runs
Summary = dict[str, dict[str, dict[str, dict[str, float]]]]


def percentile(values: list[int], share: float) -> float:
    """Return the value below which `share` of the sorted values lie."""
    return float(values[min(len(values) - 1, int(share * len(values)))]) if values else 0.0


def summarize(runs: list[dict[str, Any]]) -> Summary:
    """Return median, min, max and count of each figure by workload and contender; failed runs are not counted."""
    grouped: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for run in runs:
        if not run.get("failures"):
            grouped.setdefault((run["workload"], run["contender"]), []).append(run)
    summary: Summary = {}
    for (workload, contender), members in grouped.items():
        figures = summary.setdefault(workload, {}).setdefault(contender, {})
        for name in members[0]:
            values = [m[name] for m in members if isinstance(m.get(name), int | float)]
            if values and name != "repeat":
                figures[name] = {
                    "median": median(values),
                    "min": min(values),
                    "max": max(values),
                    "runs": len(values),
                }
    return summary


def number(value: float) -> str:
    """Write a figure with three digits that count."""
    if value >= 1000:
        return f"{value:,.0f}"
    if value >= 100:
        return f"{value:.0f}"
    if value >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if value >= 0.1 else f"{value:.3f}"


def cell(figure: dict[str, float] | None, *, spread: bool = True) -> str:
    """Write a median, with least and most where there were several runs."""
    if figure is None:
        return "-"
    text = number(figure["median"])
    if spread and figure["runs"] > 1:
        text += f" ({number(figure['min'])}-{number(figure['max'])})"
    return text


def grid(head: list[str], rows: list[list[str]], *, markdown: bool = False) -> str:
    """Lay out a table, the first column to the left, others to the right."""
    if markdown:
        lines = ["| " + " | ".join(head) + " |", "|---" + "|---:" * (len(head) - 1) + "|"]
        return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    lines = []
    for row in [head, ["-" * w for w in widths], *rows]:
        lines.append(
            "  ".join(
                c.ljust(w) if i == 0 else c.rjust(w)
                for i, (c, w) in enumerate(zip(row, widths, strict=True))
            )
        )
    return "\n".join(lines)


def failures(runs: list[dict[str, Any]]) -> str:
    """Write a line for each contender and workload that failed, with the first reason; empty if none did."""
    told: dict[tuple[str, str], list[str]] = {}
    for run in runs:
        if run.get("failures"):
            why = " ".join(str(run.get("example", "")).split())[:300] or "no reason given"
            told.setdefault((run["contender"], run["workload"]), []).append(why)
    return "\n".join(
        f"- {contender}, {workload}: failed {len(whys)} time{'s' * (len(whys) > 1)}: {whys[0]}"
        for (contender, workload), whys in told.items()
    )
