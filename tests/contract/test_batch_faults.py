# SPDX-License-Identifier: Apache-2.0
"""One bad item of a batch fails alone, wherever it fails and whatever kind of batch it is."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
from tests.contract.test_loops import KINDS, outputs
from tests.unit.worker.desks import Desk

BATCHED = [kind for kind, (_, options) in KINDS.items() if "max_batch_size" in options]
PLACES = {"decode": "bad decode", "predict": "refuse", "encode": "bad encode"}
STATUS = {"decode": 400, "predict": 418, "encode": 400}


@pytest.mark.parametrize("kind", BATCHED)
@pytest.mark.parametrize("where", PLACES)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_one_bad_item_of_a_batch_fails_alone(kind: str, where: str, place: int) -> None:
    make, options = KINDS[kind]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # The window is longer than the test may take: the three are in one batch, or never answered.
        api: Any = make(**options | {"max_batch_size": 3, "batch_timeout": 3600.0})
    values: list[Any] = [10, 11, 12]
    values[place] = PLACES[where]
    with Desk(api) as desk:
        ids = [desk.submit({"input": value}) for value in values]
        answers = [desk.answer(request_id) for request_id in ids]
        assert answers[place].failure.status == STATUS[where]
        for number in {0, 1, 2} - {place}:
            assert outputs(desk, answers[number]) == values[number]
    size = 2 if where == "decode" else 3
    assert api.batch_sizes[0] == size, "they were not in one batch"
