# SPDX-License-Identifier: Apache-2.0
"""The soak, for as long as `CUBBYHOLE_SOAK_S` says: 20 seconds here, an hour by `just chaos 3600`."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest
from tests.chaos.soak import soak

if TYPE_CHECKING:
    from collections.abc import Callable

SECONDS = float(os.environ.get("CUBBYHOLE_SOAK_S", "20"))
SEED = int(os.environ.get("CUBBYHOLE_SOAK_SEED", "0")) or int(time.time())
GROWTH_FROM_S = 120.0  # below, the thirds are too short to be compared
GROWTH_MIB = {"supervisor": 4.0, "fronts": 60.0, "total": 120.0}


@pytest.mark.timeout(SECONDS + 200)
def test_under_a_kill_every_second_each_request_has_its_own_answer_and_nothing_is_left(
    told: Callable[[str], None],
) -> None:
    report = soak(SECONDS, seed=SEED)
    told(report.text())
    assert report.wrong == [], report.text()
    assert sum(n for name, n in report.counts.items() if name.endswith(":ok")) > SECONDS
    assert report.kills["worker"] > 0
    if SECONDS >= GROWTH_FROM_S:
        grown = {name: last - first for name, (first, last) in report.growth().items()}
        assert all(grown[name] < GROWTH_MIB[name] for name in grown), report.text()
