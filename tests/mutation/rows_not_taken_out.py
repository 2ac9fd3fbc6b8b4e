# SPDX-License-Identifier: Apache-2.0
"""Promises without a protection of ours to take out, and why: a model with mutants of its own, another project's doing."""

from __future__ import annotations

NOT_TAKEN_OUT: dict[str, str] = {
    "tests/native/test_crash_points.py::test_death_at_any_instruction_loses_nothing": (
        "Built with crash points; six protections are taken out of that build, one at a time, by "
        "test_the_crash_test_fails_without beside it: `pytest -m mutation tests/native`."
    ),
    "tests/model/test_entry_model.py::test_no_interleaving_loses_or_duplicates_an_entry": (
        "A model, not the source; each of its protections (M_...) is taken out by "
        "test_the_search_finds_what_goes_wrong_without beside it, which needs no marker."
    ),
    "tests/chaos/test_descriptors.py::test_a_front_without_descriptors_serves_whom_it_has_and_recovers": (
        "That it does not spin, serves whom it has and accepts again is uvloop's doing: nothing of ours is in the way."
    ),
}
