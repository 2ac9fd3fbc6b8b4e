# SPDX-License-Identifier: Apache-2.0
"""Every target of `targets.py` on some thousand inputs that follow from a seed; `just fuzz` runs them under atheris."""

from __future__ import annotations

import contextlib
import os
import random
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from targets import REFUSALS, TARGETS

SEED = int(os.environ.get("CUBBYHOLE_SEED", "1"))
SLOW = {
    "segment": 150,
    "failure_ring": 400,
    "frames": 1000,
}  # inputs: each makes a memfd, a ring or a socket pair
INPUTS = 3000
INTERESTING = (
    b"\0",
    b"\xff",
    b"\x80",
    b"\xff\xff\xff\x7f",
    b"\0\0\0\x80",
    b"{",
    b"]",
    b"=",
    b"\r\n",
    b"9" * 20,
)


def mutated(data: bytes, chance: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(chance.randrange(1, 6)):
        at = chance.randrange(len(changed) + 1)
        way = chance.randrange(5)
        if way == 0:
            changed[at:at] = chance.choice(INTERESTING)
        elif way == 1:
            changed[at : at + len(chance.choice(INTERESTING))] = chance.choice(INTERESTING)
        elif way == 2:
            del changed[at : at + chance.randrange(1, 9)]
        elif way == 3 and at < len(changed):
            changed[at] ^= 1 << chance.randrange(8)
        else:
            changed += changed[at : at + 16] + chance.randbytes(chance.randrange(4))
    return bytes(changed)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", TARGETS)
def test_hostile_bytes_are_refused_in_the_ways_that_callers_know(name: str) -> None:
    target, examples = TARGETS[name]
    chance = random.Random(SEED)
    for number in range(SLOW.get(name, INPUTS)):
        data = mutated(chance.choice(examples), chance) if number % 10 else chance.randbytes(64)
        try:
            with contextlib.suppress(*REFUSALS):
                target(data)
        except Exception as error:  # any other is a finding
            raise AssertionError(
                f"{name}: CUBBYHOLE_SEED={SEED}, input {number}: {data!r}"
            ) from error


@pytest.mark.parametrize("name", TARGETS)
def test_what_a_target_begins_with_is_accepted(name: str) -> None:
    target, examples = TARGETS[name]
    target(examples[0])
