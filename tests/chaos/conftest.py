# SPDX-License-Identifier: Apache-2.0
"""What chaos tests measure is told at the end of the run; it is not judged, that is `bench`'s business."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

TOLD = pytest.StashKey[list[str]]()


@pytest.fixture
def measured(request: pytest.FixtureRequest) -> Callable[[str, float], None]:
    """`measured("kill to 503, shm", ms)`."""
    told = request.config.stash.setdefault(TOLD, [])
    return lambda what, ms: told.append(f"{what}: {ms:.1f} ms")


@pytest.fixture
def told(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """`told("seed=7 ...")`: lines for the end of the run, as they are."""
    return request.config.stash.setdefault(TOLD, []).append


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print it."""
    told = terminalreporter.config.stash.get(TOLD, [])
    if told:
        terminalreporter.section("measured")
        for line in sorted(told):
            terminalreporter.line(line)
