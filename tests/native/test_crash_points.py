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


PROTECTIONS = {
    "giving up a dead worker's unannounced result": (
        "cbh_dict.c",
        "  forget_result(dict, index, state);\n",
    ),
    "giving up a dead worker's stream": (
        "cbh_dict.c",
        "  cbh_stream_forget(dict, index, state, phase == CBH_CLAIMED);\n",
    ),
    "announcing a dead worker's finished entries": (
        "cbh_dict.c",
        "    cbh_announce(dict, index);\n    return 0;\n",
    ),
    "dropping a dead process's holds": (
        "cbh_segment.c",
        "  cbh_drop_everywhere(segment, place);\n",
    ),
    "failing a dead worker's entries": (
        "cbh_dict.c",
        "  return fail(dict, index, state, CBH_DIED) ? 1 : 0;\n",
    ),
    "setting lost hints again": (
        "cbh_dict.c",
        (
            "    atomic_fetch_or(&ready_words(dict, CBH_GET(slot->endpoint) % dict->endpoints)"
            "[index / 64], 1ull << (index & 63));\n    return 0;\n"
        ),
    ),
}


@pytest.mark.mutation
@pytest.mark.timeout(900)
@pytest.mark.parametrize("protection", PROTECTIONS)
def test_the_crash_test_fails_without(
    protection: str, build: Callable[..., Any], tmp_path: Path
) -> None:
    file, code = PROTECTIONS[protection]

    def take_out(native: Path) -> None:
        text = (native / file).read_text()
        assert text.count(code) == 1
        kept = "  return 0;\n" if "return" in code else ""
        (native / file).write_text(text.replace(code, kept))

    assert run_crashes(build(tmp_path, take_out, CUBBYHOLE_CRASH_POINTS="1"), 800) != {}
