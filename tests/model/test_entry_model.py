# SPDX-License-Identifier: Apache-2.0
"""The model of an entry's life (`entry.pml`), searched whole by Spin, and the same without one protection at a time.

`CUBBYHOLE_STRESS_S=60` and more adds the searches that take minutes. What follows from it: docs/design/entry-life.md.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

MODEL = Path(__file__).with_name("entry.pml")
NATIVE = Path(__file__).resolve().parents[2] / "src" / "cubbyhole" / "_native"
LONG = float(os.environ.get("CUBBYHOLE_STRESS_S", "2")) >= 60
SEARCH_LIMIT_S = 900
MODEL_MIB = 6000

pytestmark = pytest.mark.timeout(1000)
needs_spin = pytest.mark.skipif(
    shutil.which("spin") is None or shutil.which("gcc") is None,
    reason="the model checker is not installed: apt-get install spin gcc",
)

# What may happen -> how the model is told.
SHORT_SEARCHES = {
    "nothing out of the ordinary": "",
    "cancelled and expired": "CANCEL EXPIRE",
    "streamed and cancelled": "STREAM CANCEL",
    "a worker dies, the entry is run again, the next one as well": "WORKER_DEATHS=1 RETRY",
    "a worker dies while the entry is cancelled": "WORKER_DEATHS=1 CANCEL ENTRIES=1",
    "a worker dies while the entry expires": "WORKER_DEATHS=1 EXPIRE ENTRIES=1",
    "a worker dies in a stream": "WORKER_DEATHS=1 STREAM RETRY ENTRIES=1",
    "a worker dies, then whoever reclaims": "WORKER_DEATHS=1 RECLAIM_DEATHS=1 RETRY ENTRIES=1",
    "a front dies, its place is taken again": "FRONT_DEATHS=1",
    "a front dies, then whoever reclaims": "FRONT_DEATHS=1 RECLAIM_DEATHS=1 ENTRIES=1",
    "a worker is declared dead and goes on": "LATE RETRY ENTRIES=1",
    "a worker is declared dead in a stream and goes on": "LATE RETRY STREAM ENTRIES=1",
    "a worker is declared dead while its entry is cancelled": "LATE RETRY CANCEL ENTRIES=1",
    "a late worker meets the next entry": "LATE",
}
LONG_SEARCHES = {
    "two workers die of one entry": "WORKER_DEATHS=2 RETRY ENTRIES=1",
    "a front and a worker die": "FRONT_DEATHS=1 WORKER_DEATHS=1 ENTRIES=1",
    "a front and a worker die in a stream": "FRONT_DEATHS=1 WORKER_DEATHS=1 STREAM ENTRIES=1",
    "a front dies while its entry is cancelled": "FRONT_DEATHS=1 CANCEL",
    "a worker is declared dead, goes on, and another one dies": "LATE RETRY WORKER_DEATHS=1 ENTRIES=1",
}
SEARCHES = {**SHORT_SEARCHES, **(LONG_SEARCHES if LONG else {})}

# A protection that is taken out -> what must happen for it to be missed.
PROTECTIONS = {
    "M_ONE_LOOK": "WORKER_DEATHS=1 CANCEL ENTRIES=1",
    "M_NO_FORGET": "WORKER_DEATHS=1 ENTRIES=1",
    "M_LOST_HINTS": "WORKER_DEATHS=1 ENTRIES=1",
    "M_FINISHED_UNANNOUNCED": "WORKER_DEATHS=1 ENTRIES=1",
    "M_NO_SWEEP": "WORKER_DEATHS=1 ENTRIES=1",
    "M_NO_RING_AFTER_DEATH": "WORKER_DEATHS=1 ENTRIES=1",
    "M_EXPIRED_UNANNOUNCED": "WORKER_DEATHS=1 EXPIRE ENTRIES=1",
    "M_NO_NOTE_OF_WHAT_IS_LENT": "FRONT_DEATHS=1 WORKER_DEATHS=1 ENTRIES=1",
    "M_NO_LOOK_AFTER_LENDING": "FRONT_DEATHS=1 WORKER_DEATHS=1 ENTRIES=1",
    "M_HOLD_BEFORE_THE_WORD": "WORKER_DEATHS=1 ENTRIES=1",
    "M_RUNG_AFTER_THE_LOOK": "STREAM",
    "M_NO_BIT_FOR_THE_FRONT": "ENTRIES=1",
    "M_CLAIM_BEFORE_THE_BIT": "FRONT_DEATHS=1",
    "M_RESULT_OF_ANY_GENERATION": "FRONT_DEATHS=1",
    "M_FREE_WITHOUT_GENERATION": "LATE",
    "M_NO_FENCE": "LATE RETRY ENTRIES=1",
    "M_RESULT_OF_ANY_ATTEMPT": "LATE RETRY ENTRIES=1",
    "M_NO_LOOK_AFTER_THE_CLAIM": "LATE ENTRIES=1",
    "M_FORGET_BEFORE_TAKING": "LATE RETRY ENTRIES=1",
    "M_SWEEP_WHILE_IT_RUNS": "LATE RETRY ENTRIES=1",
    "M_STREAM_TAKEN_BACK": "LATE STREAM ENTRIES=1",
}


def search(into: Path, definitions: str, optimize: str = "-O2") -> str:
    """Try every interleaving; returns what Spin says."""
    flags = [f"-D{word}" for word in definitions.split()]
    subprocess.run(["spin", "-a", *flags, str(MODEL)], cwd=into, check=True, capture_output=True)
    compiler = ["gcc", optimize, "-w", "-DSAFETY", f"-DMEMLIM={MODEL_MIB}", "-o", "pan", "pan.c"]
    subprocess.run(compiler, cwd=into, check=True)
    done = subprocess.run(
        [str(into / "pan"), "-m100000"],
        cwd=into,
        capture_output=True,
        text=True,
        check=True,
        timeout=SEARCH_LIMIT_S,
    )
    assert "max search depth too small" not in done.stdout
    return done.stdout


@needs_spin
@pytest.mark.parametrize("what", SEARCHES)
def test_no_interleaving_loses_or_duplicates_an_entry(what: str, tmp_path: Path) -> None:
    said = search(tmp_path, SEARCHES[what])
    states = re.search(r"(\d+(?:\.\d+e\+\d+)?) states, stored", said)
    print(f"{what}: {states and states.group(1)} states")  # noqa: T201 (shown with -s)
    assert "errors: 0" in said, said
    assert "Search not completed" not in said, said


@needs_spin
@pytest.mark.parametrize("protection", PROTECTIONS)
def test_the_search_finds_what_goes_wrong_without(protection: str, tmp_path: Path) -> None:
    said = search(tmp_path, f"{protection} {PROTECTIONS[protection]}", "-O0")  # found soon
    assert "errors: 1" in said, said
    assert "assertion violated" in said or "invalid end state" in said, said


def test_every_protection_of_the_model_is_taken_out_once() -> None:
    assert set(re.findall(r"\bM_[A-Z_]+\b", MODEL.read_text())) == set(PROTECTIONS)


def test_the_functions_that_the_model_names_are_there() -> None:
    sources = "".join(path.read_text() for path in NATIVE.glob("*.[chp]*") if path.suffix != ".so")
    named = set(
        re.findall(
            r"\bcbh_\w+|\b(?:take_slot|give_back|put_bytes|put_chunk|open_ring)\b|\w+_of_front|\w+_slot\b",
            " ".join(re.findall(r"//.*", MODEL.read_text())),
        )
    )
    assert len(named) > 15
    assert {name for name in named if name not in sources} == set()
