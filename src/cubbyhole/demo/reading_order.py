# SPDX-License-Identifier: Apache-2.0
"""Put boxes of text in the order in which a person reads them: columns one after the other, a table row by row.

A detector gives boxes in no useful order. The page is cut where white space goes right through it: across first (heading,
body), then down, but only between columns of running text; the gap between the items and the prices of a receipt is white
too, yet is read across. What cannot be cut is read in rows.

Flow:  reader.py -> **in_reading_order** -> rows of indices
Owns:  nothing (pure functions).
"""

from __future__ import annotations

from statistics import median

import msgspec

PROSE = 6.0  # a line of running text is at least so many times as wide as it is high; "21.35" is 3
GUTTER = 0.6  # a gap between columns is at least so many line heights wide
SAME_ROW = 0.5  # two boxes share a row if they overlap by this share of the lower one's height


class Box(msgspec.Struct, frozen=True):
    """Upright rectangle in pixels, y downwards."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def width(self) -> float:
        """Pixels."""
        return self.right - self.left

    @property
    def height(self) -> float:
        """Pixels."""
        return self.bottom - self.top


def in_reading_order(boxes: list[Box]) -> list[list[int]]:
    """Return rows of indices into `boxes`, top to bottom, each from left to right; every index once."""
    return _cut(boxes, list(range(len(boxes))))


def _cut(boxes: list[Box], members: list[int]) -> list[list[int]]:
    columns = _columns(boxes, members)
    if len(columns) > 1:
        return [row for column in columns for row in _cut(boxes, column)]
    for at in _spanning(boxes, members):
        # A line as wide as the page (a heading) parts what is above it from what is below.
        middle = (boxes[at].top + boxes[at].bottom) / 2
        above = [m for m in members if m != at and _middle(boxes[m]) < middle]
        below = [m for m in members if m != at and _middle(boxes[m]) >= middle]
        if len(_columns(boxes, above)) > 1 or len(_columns(boxes, below)) > 1:
            return [*_cut(boxes, above), [at], *_cut(boxes, below)]
    return _rows(boxes, members)


def _middle(box: Box) -> float:
    return (box.top + box.bottom) / 2


def _columns(boxes: list[Box], members: list[int]) -> list[list[int]]:
    """Split at gaps from top to bottom; one list if there are none, or if what they part is no running text."""
    if len(members) < 4:
        return [members]
    gutter = GUTTER * median(boxes[m].height for m in members)
    columns: list[list[int]] = []
    reach = float("-inf")
    for member in sorted(members, key=lambda m: boxes[m].left):
        if boxes[member].left > reach + gutter:
            columns.append([])
        columns[-1].append(member)
        reach = max(reach, boxes[member].right)
    prose = all(
        len(column) > 1 and median(boxes[m].width / boxes[m].height for m in column) >= PROSE
        for column in columns
    )
    return columns if prose else [members]


def _spanning(boxes: list[Box], members: list[int]) -> list[int]:
    """Boxes that lie across the middle of the page, top first: what hides a gutter."""
    if not members:
        return []
    middle = (min(boxes[m].left for m in members) + max(boxes[m].right for m in members)) / 2
    across = [m for m in members if boxes[m].left < middle < boxes[m].right]
    return sorted(across, key=lambda m: boxes[m].top)


def _rows(boxes: list[Box], members: list[int]) -> list[list[int]]:
    rows: list[list[int]] = []
    for member in sorted(members, key=lambda m: _middle(boxes[m])):
        box = boxes[member]
        if rows:
            last = boxes[rows[-1][-1]]
            shared = min(box.bottom, last.bottom) - max(box.top, last.top)
            if shared >= SAME_ROW * min(box.height, last.height):
                rows[-1].append(member)
                continue
        rows.append([member])
    return [sorted(row, key=lambda m: boxes[m].left) for row in rows]
