# SPDX-License-Identifier: Apache-2.0
"""A process killed at any marked instruction of a hand-over loses no slot, no block and no client."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[2]
NATIVE = ROOT / "src" / "cubbyhole" / "_native"
DEATHS, ORDERS = "tests.native.crash_entries", "tests.native.crash_orders"
NOT_ARMED = {  # crash points of the core that no entry meets, and why
    **dict.fromkeys(
        (20, 21, 22, 23, 24, 25, 26, 27, 28, 30, 31, 32, 40, 41, 42, 43, 50),
        "in cbh_index.c, which only a SharedDict has: crash_index.c dies there",
    ),
    **dict.fromkeys(
        (86, 87, 88),
        "in what an operator does: the supervisor alone does it, and when that dies all processes end",
    ),
}


def play(program: str, source: Path, limit_s: float, *options: str) -> dict[str, list[str]]:
    done = subprocess.run(
        [sys.executable, "-m", program, *options],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(source)},
        capture_output=True,
        text=True,
        timeout=limit_s,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    found: dict[str, list[str]] = json.loads(done.stdout)
    assert found
    return found


def wrong_of(found: dict[str, list[str]]) -> dict[str, list[str]]:
    return {name: wrong for name, wrong in found.items() if wrong}


@pytest.mark.timeout(900)
def test_death_at_any_instruction_loses_nothing(crash_build: Path) -> None:
    found = play(DEATHS, crash_build, 800)
    assert wrong_of(found) == {}
    assert len(found) > 200


@pytest.mark.timeout(400)
def test_what_others_do_between_two_instructions_loses_nothing(crash_build: Path) -> None:
    found = play(ORDERS, crash_build, 300)
    assert wrong_of(found) == {}
    assert len(found) > 80


def test_every_crash_point_of_the_core_is_armed_for_entries_or_said_not_to_be() -> None:
    core = "".join(path.read_text() for path in NATIVE.glob("cbh_*.c"))
    marked = [int(point) for point in re.findall(r"cbh_crash_here\((\d+)\)", core)]
    assert len(marked) == len(set(marked)), "a crash point has a number of its own"
    assert set(marked) == armed() | set(NOT_ARMED)


def armed() -> set[int]:
    asked = (
        "from tests.native import crash_entries as c, crash_orders as o; print(*c.ARMED | o.ARMED)"
    )
    done = subprocess.run(
        [sys.executable, "-c", asked], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return {int(point) for point in done.stdout.split()}


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
    "announcing what a dead worker let expire": (
        "cbh_reclaim.c",
        "if (phase == CBH_DONE || phase == CBH_FAILED) {",
        "if (cbh_place_of(state) == place && (phase == CBH_DONE || phase == CBH_FAILED)) {",
    ),
}
ORDER_PROTECTIONS = {  # and the scenes that must find it
    "taking back what a dead worker was about to lend": (
        "cbh_reclaim.c",
        "    take_back(dict, place);\n",
        "",
        "a front dies before it is lent",
    ),
    "the look after a block was lent": (
        "cbh_dict.c",
        "  if (!ours) cbh_drop(s, block, cbh_bit(front));\n",
        "  ours = true;\n",
        "a front dies before it is lent",
    ),
    "the second look where a request's words are of two entries": (
        "cbh_dict.c",
        "return CBH_GET(slot->state) == state ? CBH_CORRUPT : CBH_AGAIN;",
        "return CBH_CORRUPT;",
        "a slot is used again at 77",
    ),
    "the look whether a claim stands": (
        "_entries.pyx",
        "if cbh_claim_stands(d, &claims[i]):",
        "if True:",
        "a front is replaced after a claim",
    ),
    "the hint of an entry that was given back": (
        "cbh_reclaim.c",
        "      set_hint(dict, index);\n      return 0;\n",
        "      return 0;\n",
        "a worker is declared dead while it claims",
    ),
    "the sweep where no block is now": (
        "cbh_heap.c",
        "    if (used > CBH_EXTENT_BLOCKS) used = CBH_EXTENT_BLOCKS;  // written over\n",
        "    uint64_t each;\n    used = blocks_of(s, extent, &each);\n",
        "an extent is lifted under a hand",
    ),
}


@pytest.mark.mutation
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("protection", [*PROTECTIONS, *ORDER_PROTECTIONS])
def test_the_crash_test_fails_without(
    protection: str, build: Callable[..., Any], tmp_path: Path
) -> None:
    if protection in PROTECTIONS:
        (file, code, without), program, only = PROTECTIONS[protection], DEATHS, ""
    else:
        *change, only = ORDER_PROTECTIONS[protection]
        (file, code, without), program = change, ORDERS

    def take_out(native: Path) -> None:
        text = (native / file).read_text()
        assert text.count(code) == 1
        (native / file).write_text(text.replace(code, without))

    made = build(tmp_path, take_out, CUBBYHOLE_CRASH_POINTS="1")
    assert wrong_of(play(program, made, 1500, "--first", only)) != {}
