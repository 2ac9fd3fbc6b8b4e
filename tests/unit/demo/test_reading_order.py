# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cubbyhole.demo.reading_order import Box, in_reading_order


def line(left: float, top: float, width: float, height: float = 20) -> Box:
    return Box(left, top, left + width, top + height)


def test_columns_of_prose_are_read_one_after_the_other() -> None:
    left = [line(0, 30 * n, 200) for n in range(3)]
    right = [line(260, 30 * n, 200) for n in range(3)]
    assert in_reading_order([*right, *left]) == [[3], [4], [5], [0], [1], [2]]


def test_a_heading_across_both_columns_comes_first() -> None:
    heading = line(100, 0, 300, 30)
    left = [line(0, 50 + 30 * n, 200) for n in range(3)]
    right = [line(260, 50 + 30 * n, 200) for n in range(3)]
    assert in_reading_order([*right, *left, heading]) == [[6], [3], [4], [5], [0], [1], [2]]


def test_prices_stay_beside_what_they_are_for() -> None:
    what = [line(0, 40 * n, 160) for n in range(4)]
    price = [line(300, 40 * n + 4, 50) for n in range(4)]
    assert in_reading_order([*what, *price]) == [[0, 4], [1, 5], [2, 6], [3, 7]]


def test_a_row_that_is_a_little_askew_is_one_row() -> None:
    assert in_reading_order([line(200, 0, 60), line(0, 8, 60)]) == [[1, 0]]


def test_no_text_has_no_rows() -> None:
    assert in_reading_order([]) == []


@given(
    st.lists(
        st.builds(
            line,
            st.integers(0, 900),
            st.integers(0, 900),
            st.integers(1, 500),
            st.integers(1, 60),
        ),
        max_size=30,
    )
)
def test_every_box_is_read_exactly_once(boxes: list[Box]) -> None:
    read = [index for row in in_reading_order(boxes) for index in row]
    assert sorted(read) == list(range(len(boxes)))
