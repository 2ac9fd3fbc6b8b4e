# SPDX-License-Identifier: Apache-2.0
"""Promises without a protection of ours to take out, and why: a model with mutants of its own, another project's doing."""

from __future__ import annotations

NOT_TAKEN_OUT: dict[str, str] = {
    "tests/native/test_corruption.py::test_words_written_over_crash_hang_and_point_outside_nowhere": (
        "Built with sanitizers; five checks of the core are taken out of that build, one at a time, by "
        "test_the_scribbler_finds_what_is_not_checked beside it: `pytest -m mutation tests/native`."
    ),
}
