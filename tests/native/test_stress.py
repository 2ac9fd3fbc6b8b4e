# SPDX-License-Identifier: Apache-2.0
"""`SharedDict` in real processes that are killed at random: seconds here, `CUBBYHOLE_STRESS_S=600` for longer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("stress_dictionary.py")
SECONDS = float(os.environ.get("CUBBYHOLE_STRESS_S", "4"))
SEED = os.environ.get("CUBBYHOLE_STRESS_SEED", "1")


@pytest.mark.timeout(120 + 2 * SECONDS)
def test_killed_processes_tear_no_value_lose_no_block_and_hinder_nobody() -> None:
    done = subprocess.run(
        [sys.executable, str(PROGRAM), str(SECONDS), "6", SEED],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    assert found["kills"] > 6
    assert found["operations"] > 100
