# SPDX-License-Identifier: Apache-2.0
"""A dictionary for a test; all of its blocks must be free when its keys and views are gone."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import pytest

from cubbyhole import SharedDict

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def d() -> Iterator[SharedDict]:
    with SharedDict.create(bytes=2**24, buckets=64) as made:
        yield made
        made.clear()
        gc.collect()
        assert made.statistics().used_blocks == 0
