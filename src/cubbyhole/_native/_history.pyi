# SPDX-License-Identifier: Apache-2.0
from typing_extensions import disjoint_base

from cubbyhole._native._segment import Segment

TIME_BOUNDS_NS: tuple[int, ...]
SIZE_BOUNDS: tuple[int, ...]
BATCH_BOUNDS: tuple[int, ...]
RECORDS: int

@disjoint_base
class History:
    def __init__(self, segment: Segment) -> None: ...
    @property
    def segment(self) -> Segment: ...
    def tally(
        self, endpoint: int
    ) -> tuple[list[int], list[tuple[int, list[int]]], list[tuple[int, list[int]]]]: ...
    def batches(self, endpoint: int) -> tuple[tuple[int, list[int]], tuple[int, list[int]]]: ...
    def past(self) -> list[tuple[int, ...]]: ...
