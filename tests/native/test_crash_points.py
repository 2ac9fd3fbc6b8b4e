# SPDX-License-Identifier: Apache-2.0
"""A process killed at any marked instruction of a hand-over loses no slot, no block and no client."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).parent


def run_crashes(source: Path, limit_s: float) -> dict[str, list[str]]:
    done = subprocess.run(
        [sys.executable, str(HERE / "crash_entries.py")],
        env={**os.environ, "PYTHONPATH": str(source)},
        capture_output=True,
        text=True,
        timeout=limit_s,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    found: dict[str, list[str]] = json.loads(done.stdout)
    assert len(found) > 50
    return {name: wrong for name, wrong in found.items() if wrong}


@pytest.mark.timeout(300)
def test_death_at_any_instruction_loses_nothing(crash_build: Path) -> None:
    assert run_crashes(crash_build, 200) == {}


PROTECTIONS = {  # file, code, what stands there without it
    "giving up a dead worker's unannounced result": (
        "cbh_reclaim.c",
        "  forget_result(dict, index, state);\n",
        "",
    ),
    "giving up a dead worker's stream": (
        "cbh_reclaim.c",
        "  cbh_stream_forget(dict, index, state, phase == CBH_CLAIMED);\n",
        "",
    ),
    "announcing a dead worker's finished entries": (
        "cbh_reclaim.c",
        "      cbh_announce(dict, index);\n",
        "",
    ),
    "dropping a dead process's holds": (
        "cbh_segment.c",
        "  cbh_drop_everywhere(segment, place);\n",
        "",
    ),
    "failing a dead worker's entries": (
        "cbh_reclaim.c",
        "return cbh_fail(dict, index, state, CBH_DIED, place);",
        "return true;",
    ),
    "setting lost hints again": (
        "cbh_reclaim.c",
        "      set_hint(dict, index);\n      return 0;\n",
        "      return 0;\n",
    ),
}


@pytest.mark.mutation
@pytest.mark.timeout(900)
@pytest.mark.parametrize("protection", PROTECTIONS)
def test_the_crash_test_fails_without(
    protection: str, build: Callable[..., Any], tmp_path: Path
) -> None:
    file, code, without = PROTECTIONS[protection]

    def take_out(native: Path) -> None:
        text = (native / file).read_text()
        assert text.count(code) == 1
        (native / file).write_text(text.replace(code, without))

    assert run_crashes(build(tmp_path, take_out, CUBBYHOLE_CRASH_POINTS="1"), 800) != {}
