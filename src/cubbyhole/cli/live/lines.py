# SPDX-License-Identifier: Apache-2.0
"""A table whose rows are drawn as whole lines.

A cell costs textual as much as a line does, a quarter of a millisecond, and all of them change with each look: with one cell a row a
look takes two thirds of the CPU (44 ms instead of 68 on the benchmark's machine), which a server beside it would miss.

Flow:  app.py -> **LineTable.fill** -> DataTable
Owns:  the cells that it shows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text
from textual.widgets import DataTable

from cubbyhole.cli.columns import aligned

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence


class LineTable(DataTable[Text]):
    """See the module.

    Attributes:
        cells: What is shown, row by row.
    """

    def __init__(self, name: str, *, chosen: bool = False) -> None:
        super().__init__(id=name, cursor_type="row" if chosen else "none", cell_padding=0)
        self.cells: list[tuple[str, ...]] = []

    def fill(
        self,
        columns: Sequence[str],
        rows: list[tuple[str, ...]],
        *,
        left: Collection[str],
        loud: Collection[str] = (),
        keys: Sequence[str] = (),
    ) -> None:
        """Show these rows instead.

        Args:
            columns: Titles.
            rows: As many cells each as there are columns.
            left: Titles of columns whose cells begin, not end, below each other.
            loud: Cells that are to be seen at once.
            keys: Of the rows; none: they are not to be found again.
        """
        self.cells = rows
        right = [title for title in columns if title not in left]
        heading, *lines = aligned(columns, rows, right)
        self.clear(columns=True)
        self.add_column(Text(heading))
        for number, (line, cells) in enumerate(zip(lines, rows, strict=True)):
            text = Text(line, no_wrap=True)
            for cell in {cell for cell in cells if cell in loud}:
                text.highlight_words([cell], style="bold red")
            self.add_row(text, key=keys[number] if keys else None)
