# SPDX-License-Identifier: Apache-2.0
"""What the core's refusals mean to a user of `SharedDict`: one error each, with numbers and what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cubbyhole._native._index import LONGEST_KEY_BYTES
from cubbyhole._native._segment import CODES, PLACES, CoreError, Segment
from cubbyhole.core.errors import (
    CubbyholeError,
    DictionaryError,
    PlacesTaken,
    SegmentClosed,
    SegmentFull,
    ValueTooLarge,
    WrongLayout,
)

if TYPE_CHECKING:
    from collections.abc import Callable

SHOWN_KEY = 80  # characters of a key in a text


def explained(error: CoreError, segment: Segment, key: str, size_bytes: int) -> CubbyholeError:
    """Return the error to raise for a refusal; `size_bytes` is the value's."""
    if segment.closed:
        return SegmentClosed(
            "The dictionary is closed in this process. Keep it open, or attach again."
        )
    tell = _TELLERS.get(error.code)
    if tell is None:
        return DictionaryError(f"{error}. This is a defect of the dictionary; please report it.")
    return tell(error, segment, key, size_bytes)


def _full(_error: CoreError, segment: Segment, key: str, size_bytes: int) -> CubbyholeError:
    used, blocks = segment.usage()
    return SegmentFull(
        f"No room for {size_bytes:,} bytes under {key[:SHOWN_KEY]!r}: {used:,} of {segment.arena_bytes:,} bytes are used by "
        f"{blocks:,} blocks. Delete keys, let views of old values go, or make the dictionary larger: create(bytes=...)."
    )


def _too_large(_error: CoreError, segment: Segment, key: str, size_bytes: int) -> CubbyholeError:
    key_bytes = len(key.encode("utf-8", "replace"))
    if key_bytes > LONGEST_KEY_BYTES:
        return ValueTooLarge(
            f"A key of {key_bytes:,} bytes is longer than {LONGEST_KEY_BYTES:,}. Store under a hash of it, and the text in the value."
        )
    return ValueTooLarge(
        f"{size_bytes:,} bytes under {key[:SHOWN_KEY]!r} never fit: the arena has {segment.arena_bytes:,}. Make it larger: "
        "create(bytes=...), or split the value over several keys."
    )


def _stale(_error: CoreError, segment: Segment, _key: str, _size_bytes: int) -> CubbyholeError:
    if segment.place < 0:
        return _no_place(_error, segment, _key, _size_bytes)
    return SegmentClosed(
        f"This process counts as dead: its place {segment.place} was reaped. Attach again."
    )


def _no_place(_error: CoreError, _segment: Segment, _key: str, _size_bytes: int) -> CubbyholeError:
    return PlacesTaken(
        f"All {PLACES} places of the dictionary are taken by live processes, and this one has none. Close it in one of them, or let "
        "threads of one process share it."
    )


def _corrupt(error: CoreError, segment: Segment, _key: str, _size_bytes: int) -> CubbyholeError:
    return WrongLayout(
        f"The segment of {segment.segment_bytes:,} bytes is no dictionary of this version, or was written over ({error}). Attach to "
        "the descriptor that fileno() gives, or make a new one."
    )


_TELLERS: dict[int, Callable[[CoreError, Segment, str, int], CubbyholeError]] = {
    CODES["full"]: _full,
    CODES["too_large"]: _too_large,
    CODES["stale"]: _stale,
    CODES["no_place"]: _no_place,
    CODES["corrupt"]: _corrupt,
    CODES["wrong_layout"]: _corrupt,
}
