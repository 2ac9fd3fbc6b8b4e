# SPDX-License-Identifier: Apache-2.0
"""Time inside is monotonic; the wall clock is for people, and is named where it is read."""

from __future__ import annotations

import re
from pathlib import Path

import cubbyhole

SOURCE = Path(cubbyhole.__file__).parent
# Where seconds since 1970 are shown to somebody: ids and times in answers, logs and descriptions.
SHOWN = re.compile(
    r"created|started_s|failed_at_s|_at_s|stamp|date|when|age|text|ids?\b|expires|now_s",
    re.IGNORECASE,
)
WALL = re.compile(
    r"\btime\.time(?:_ns)?\(|\bfrom time import (?:.*\b)?time(?:_ns)?\b|datetime\.now\(|CLOCK_REALTIME"
)


def test_no_deadline_follows_the_wall_clock() -> None:
    found = [
        f"{path.relative_to(SOURCE)}:{number}: {line.strip()}"
        for path in [*SOURCE.rglob("*.py"), *SOURCE.rglob("*.pyx"), *SOURCE.rglob("cbh_*.c")]
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if WALL.search(line)
        and not SHOWN.search(line)
        # `created` of OpenAI's models, the beginning of ids, and spans, whose times are for people
        and str(path.relative_to(SOURCE))
        not in {
            "specs/openai_models.py",
            "core/ids.py",
            "observe/spans.py",
            "observe/traces.py",
            "inspector/picture.py",
        }
    ]
    assert found == []


def test_the_core_reads_the_monotonic_clock_only() -> None:
    core = "".join(path.read_text() for path in (SOURCE / "_native").glob("cbh_*.c"))
    assert set(re.findall(r"CLOCK_\w+", core)) == {"CLOCK_MONOTONIC"}
    assert "gettimeofday" not in core
