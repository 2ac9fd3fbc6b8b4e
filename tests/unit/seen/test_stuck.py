# SPDX-License-Identifier: Apache-2.0
"""What counts as stuck, and what does not."""

from __future__ import annotations

from typing import Any

import pytest

from cubbyhole.core.statistics import EntrySnapshot
from cubbyhole.seen.stuck import why_stuck

SECOND = 1_000_000_000
NOW = 100 * SECOND


def why(state: str = "CLAIMED", run_s: float = 0.5, **more: Any) -> str:
    entry = EntrySnapshot(
        id=1,
        endpoint=0,
        state=state,
        front=0,
        claimed_ns=NOW - int(run_s * SECOND),
        deadline_ns=more.pop("deadline_ns", NOW + SECOND),
    )
    known = {"worker_word": "sleeping", "beat_age_ns": 0, "usual_ns": 0, **more}
    return why_stuck(entry, NOW, **known)


def test_what_runs_is_not_stuck() -> None:
    assert why() == ""
    assert why(run_s=2.0, usual_ns=SECOND, beat_age_ns=2 * SECOND) == ""


@pytest.mark.parametrize("word", ["stopped", "traced", "dead"])
def test_what_a_halted_worker_holds_is_stuck(word: str) -> None:
    assert why(worker_word=word) == f"worker {word}"
    assert why("STREAMING", worker_word=word) == f"worker {word}"


def test_what_is_past_its_deadline_is_stuck_but_a_stream_may_go_on() -> None:
    assert why(deadline_ns=NOW - 1) == "past its deadline"
    assert why("READY", deadline_ns=NOW - 1) == "past its deadline"
    assert why("STREAMING", deadline_ns=NOW - 1) == ""
    assert why("DONE", deadline_ns=NOW - 1) == ""
    assert why(deadline_ns=0) == ""


def test_ten_times_longer_than_usual_and_over_a_second_is_stuck() -> None:
    assert why(run_s=1.5, usual_ns=SECOND // 100) == "runs unusually long"
    assert why(run_s=0.9, usual_ns=SECOND // 100) == ""
    assert why(run_s=9.0, usual_ns=SECOND) == ""
    assert why(run_s=11.0, usual_ns=SECOND) == "runs unusually long"


def test_a_worker_that_gives_no_sign_is_stuck_unless_it_usually_takes_as_long() -> None:
    assert why(run_s=5, beat_age_ns=5 * SECOND) == "worker silent"
    assert why(run_s=5, beat_age_ns=5 * SECOND, usual_ns=4 * SECOND) == ""
