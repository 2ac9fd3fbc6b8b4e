# SPDX-License-Identifier: Apache-2.0
"""Each promise's test fails without its protection: `pytest -m mutation tests/mutation`, an hour; `-k` chooses."""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING

import pytest
from tests.mutation import rows_deaths, rows_order, rows_overload, rows_requests, rows_servers
from tests.mutation.rows_not_taken_out import NOT_TAKEN_OUT
from tests.mutation.taken_out import ROOT, TESTS_FAILED, Mutation

if TYPE_CHECKING:
    from pathlib import Path

MUTATIONS = [
    *rows_requests.ROWS,
    *rows_order.ROWS,
    *rows_overload.ROWS,
    *rows_deaths.ROWS,
    *rows_servers.ROWS,
]
PROMISES = (ROOT / "docs" / "reliability.md").read_text().partition("## Each was seen to fail")[0]
KEPT_BY = sorted(set(re.findall(r"`((?:tests|src)/[\w/]+\.py::\w+)` \|$", PROMISES, re.MULTILINE)))
RUN_S = 240.0  # a test that hangs without its protection has its own time limit, far below


def name_of(mutation: Mutation) -> str:
    return f"{mutation.kept_by.rpartition('::')[2]}-{mutation.what}"


@pytest.mark.parametrize("kept_by", KEPT_BY)
def test_a_promise_has_a_protection_that_was_taken_out_or_a_reason(kept_by: str) -> None:
    taken_out = [one for one in MUTATIONS if one.kept_by == kept_by]
    assert bool(taken_out) != bool(NOT_TAKEN_OUT.get(kept_by))


@pytest.mark.parametrize("mutation", MUTATIONS, ids=name_of)
def test_what_is_taken_out_is_there(mutation: Mutation) -> None:
    """Else the source has moved on, and the row has to follow it."""
    assert set(mutation.occurrences()) == {1}


@pytest.mark.mutation
@pytest.mark.timeout(600)
@pytest.mark.parametrize("mutation", [rows_requests.ROWS[0], rows_deaths.ROWS[0]], ids=name_of)
def test_a_copy_with_all_its_protections_keeps_its_promise(
    mutation: Mutation, tmp_path: Path
) -> None:
    """Else the others would fail because they run on a copy, not because something is missing in it."""
    whole = dataclasses.replace(mutation, new=mutation.old, more=(), elsewhere=())
    whole.take_out(tmp_path)
    done = whole.run(tmp_path, RUN_S)
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-1000:]}"


@pytest.mark.mutation
@pytest.mark.timeout(600)
@pytest.mark.parametrize("mutation", MUTATIONS, ids=name_of)
def test_without_its_protection_a_promise_is_broken(mutation: Mutation, tmp_path: Path) -> None:
    mutation.take_out(tmp_path)
    done = mutation.run(tmp_path, RUN_S)
    assert done.returncode == TESTS_FAILED, f"{done.stdout[-3000:]}\n{done.stderr[-1000:]}"
