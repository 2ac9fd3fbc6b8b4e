# SPDX-License-Identifier: Apache-2.0
from collections.abc import Callable
from typing import Any

from typing_extensions import Self, disjoint_base

AT_ONCE: int

@disjoint_base
class Notes:
    def __new__(cls, when_first: Callable[[], object], when_full: Callable[[], object]) -> Self: ...
    def __len__(self) -> int: ...
    def note(
        self, scope: dict[str, Any], began_ns: int, status: int, size: int, name: bytes = b""
    ) -> None: ...
    def take(
        self,
    ) -> list[tuple[int, int, str, str, int, int, tuple[str, int] | None, bytes]]: ...
    def make(
        self,
        parts: tuple[bytes, ...],
        stamp_ns: int,
        moment: Callable[[int], str],
        escape: Callable[[str], str],
    ) -> str: ...
