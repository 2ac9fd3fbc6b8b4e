# SPDX-License-Identifier: Apache-2.0
"""The face of a dict on the index: look up, store, delete, go through.

Flow:  shared_dict.py -> **mapping.py** -> values.py, _native/_index.pyx
Owns:  nothing; `SharedDict` opens and closes.
See:   docs/guide/shared-dict.md for what is atomic and what is not
"""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import TYPE_CHECKING, Any

from cubbyhole._native._segment import CODES, PLACES, CoreError
from cubbyhole.core.errors import UnknownType
from cubbyhole.dictionary.refusals import explained
from cubbyhole.dictionary.values import BYTES, COPIED, PICKLE, Codec

if TYPE_CHECKING:
    from cubbyhole._native._index import Index
    from cubbyhole._native._segment import Segment
    from cubbyhole.core.errors import CubbyholeError
    from cubbyhole.dictionary.values import Encoded

_MISSING = object()


class SegmentMapping(MutableMapping[str, Any]):
    """str -> value, in a segment. Each operation on one key is atomic; those on many are one for each key."""

    def __init__(self, segment: Segment, index: Index, codec: Codec) -> None:
        self._segment = segment
        self._index = index
        self._codec = codec

    # ------------------------------------------------------------------ one key
    def __getitem__(self, key: str) -> Any:
        try:
            found = self._index.get(key, COPIED)
        except CoreError as error:
            raise self._explained(error, key) from error
        except TypeError:
            if type(key) is str:
                raise
            found = self._index.get(str(key), COPIED) if isinstance(key, str) else None
        if found is None:
            raise KeyError(key)
        kind, head, value = found
        if kind == BYTES:
            return value
        if kind > PICKLE:
            kind = 0
        return self._codec.decoders[kind](head, value)

    def __setitem__(self, key: str, value: Any) -> None:
        kind, head, data = self._codec.encode(value)
        try:
            self._index.put(key, kind, head, data)
        except CoreError as error:
            self._put_again(error, key, (kind, head, data), keep_old=False)
        except TypeError as error:
            self._index.put(self._as_key(key, error), kind, head, data)

    def __delitem__(self, key: str) -> None:
        if self._removed(key, want_value=False) is None:
            raise KeyError(key)

    def __contains__(self, key: object) -> bool:
        if not isinstance(key, str):
            return False
        try:
            return self._index.has(key if type(key) is str else str(key))
        except CoreError as error:
            raise self._explained(error, key) from error

    def pop(self, key: str, default: Any = _MISSING) -> Any:
        """Remove a key and return its value: of several processes, one gets it."""
        found = self._removed(key, want_value=True)
        if found is not None:
            return self._codec.decode(*found)
        if default is _MISSING:
            raise KeyError(key)
        return default

    def popitem(self) -> tuple[str, Any]:
        """Remove any key and return it with its value. There is no last one: other processes store at the same time."""
        while len(self):
            for key in self:
                found = self._removed(key, want_value=True)
                if found is not None:
                    return key, self._codec.decode(*found)
        raise KeyError("popitem(): the dictionary is empty")

    def setdefault(self, key: str, default: Any = None) -> Any:
        """Return the value of a key, after storing `default` if there is none. Atomic: the first of several processes wins.

        The value comes back as `d[key]` gives it, also where it was stored by this call.
        """
        kind, head, data = self._codec.encode(default)
        try:
            found = self._index.put(key, kind, head, data, True, COPIED)
        except CoreError as error:
            found = self._put_again(error, key, (kind, head, data), keep_old=True)
        except TypeError as error:
            return self.setdefault(self._as_key(key, error), default)
        if found is not None:
            return self._codec.decode(*found)
        return self.get(key, default)

    def clear(self) -> None:
        """Remove all keys. What others store in the meantime may stay."""
        for key in self:
            self._removed(key, want_value=False)

    # ------------------------------------------------------------------ all keys
    def __iter__(self) -> Iterator[str]:
        """Go through the keys, bucket by bucket, in no order of theirs and without any lock.

        A key that is there all the time comes once; one that comes or goes meanwhile may come or not.
        """
        try:
            for bucket in range(self._index.buckets if len(self) else 0):
                while (seen := self._index.observe(bucket)) is None:
                    self._index.visit(bucket)
                for found in seen:
                    yield found[0]
        except CoreError as error:
            raise self._explained(error, "") from error

    def __len__(self) -> int:
        try:
            return self._index.length()
        except CoreError as error:
            raise self._explained(error, "") from error

    def __bool__(self) -> bool:
        return len(self) > 0

    # ------------------------------------------------------------------ inside
    def _put_again(self, error: CoreError, key: str, encoded: Encoded, *, keep_old: bool) -> Any:
        """There was no room: what dead processes hold makes some, or the error is told."""
        kind, head, data = encoded
        try:
            if error.code != CODES["full"] or not self._reap_dead():
                raise error
            return self._index.put(key, kind, head, data, keep_old, COPIED)
        except CoreError as final:
            raise self._explained(final, key, memoryview(data).nbytes) from final

    def _reap_dead(self) -> int:
        """Drop what dead processes hold; returns how many there were."""
        segment = self._segment
        places = (place for place in range(PLACES) if segment.pid(place) and place != segment.place)
        return sum(segment.reap(place) for place in places if not segment.alive(place))

    def _removed(self, key: str, *, want_value: bool) -> Any:
        try:
            return self._index.remove(key, want_value, COPIED)
        except CoreError as error:
            raise self._explained(error, key) from error
        except TypeError:
            if type(key) is str or not isinstance(key, str):
                return None
            return self._removed(str(key), want_value=want_value)

    @staticmethod
    def _as_key(key: object, error: TypeError) -> str:
        if type(key) is str:
            raise error
        if isinstance(key, str):
            return str(key)
        raise UnknownType(
            f"A key must be a str, not {type(key).__qualname__}: {key!r}. Convert it with str()."
        ) from error

    def _explained(self, error: CoreError, key: str, size_bytes: int = 0) -> CubbyholeError:
        return explained(error, self._segment, key, size_bytes)
