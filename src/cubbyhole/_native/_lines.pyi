# SPDX-License-Identifier: Apache-2.0
from collections.abc import Callable
from typing import Any

from typing_extensions import Self, disjoint_base

AT_ONCE: int

@disjoint_base
class Notes:
    def __new__(cls, most_bytes: int) -> Self: ...
    def __len__(self) -> int: ...
    def note(
        self,
        scope: dict[str, Any],
        began_ns: int,
        status: int,
        size: int,
        name: bytes = b"",
        number: int = 0,
    ) -> None: ...
    def lost(self) -> tuple[int, int]: ...
    def take(self) -> list[tuple[int, int, str, str, int, int, tuple[str, int] | None, str]]: ...
    def make(
        self,
        parts: tuple[bytes, ...],
        stamp_ns: int,
        clock: bytes,
        utc: bool,
        escape: Callable[[str], str],
    ) -> str: ...
