# SPDX-License-Identifier: Apache-2.0
"""Rows as aligned text, whole and fast: no cell is cut to a terminal's width, as half of an id is of no use.

Flow:  entries.py -> **aligned** -> standard output
Owns:  nothing. A table by rich takes seconds for what a busy server has under way, and cuts cells.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

GAP = "  "


def aligned(
    names: Sequence[str], rows: Sequence[Sequence[str]], right: Collection[str] = ()
) -> Iterator[str]:
    """Give a line of headings and one for each row.

    Args:
        names: Of the columns.
        rows: Cells, as many in each as there are names.
        right: Names of columns whose cells end, not begin, below each other.
    """
    widths = [max(map(len, column)) for column in zip(names, *rows, strict=True)]
    sides = [str.rjust if name in right else str.ljust for name in names]
    for cells in (names, *rows):
        line = (side(cell, width) for side, cell, width in zip(sides, cells, widths, strict=True))
        yield GAP.join(line).rstrip()


def printable(text: str) -> str:
    """Return text in which nothing but line breaks and tabs acts on a terminal: what failed may have said what a client sent."""
    return "".join(one if one.isprintable() or one in "\n\t" else "\ufffd" for one in text)
