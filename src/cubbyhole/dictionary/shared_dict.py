# SPDX-License-Identifier: Apache-2.0
"""`SharedDict`: make it, attach to it, wait for keys, look inside, close it.

Flow:  users -> **shared_dict.py** -> mapping.py -> values.py, _native/_index.pyx
Owns:  the descriptor of the segment and the mapping in this process.
See:   docs/guide/shared-dict.md, docs/design/segment-layout.md
"""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from contextlib import contextmanager
from multiprocessing import reduction
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

import numpy as np

from cubbyhole._native._index import MOST_BUCKETS, Index, body_bytes
from cubbyhole._native._segment import CODES, KIND_DICTIONARY, PLACES, CoreError, Segment
from cubbyhole.core.clock import now_ns
from cubbyhole.core.errors import WrongLayout
from cubbyhole.dictionary.mapping import SegmentMapping
from cubbyhole.dictionary.records import DictionarySnapshot, DictionaryStatistics, KeySnapshot
from cubbyhole.dictionary.refusals import explained
from cubbyhole.dictionary.values import ARRAY, COPIED, KIND_NAMES, Codec
from cubbyhole.dictionary.watching import Watcher

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    import numpy.typing as npt
    from typing_extensions import Self

SLICE_NS = (
    500_000_000  # the longest sleep without a look: what a wake-up costs that died with its sender
)
BYTES_A_BUCKET = (
    16 * 1024
)  # a guess at the mean value; with smaller ones chains grow, and `buckets=` helps
LEAST_BYTES = 2**24  # an extent of 1 MiB for each of eleven sizes, and a few more
FEWEST_BUCKETS, MOST_DEFAULT_BUCKETS = 1024, 65_536  # 64 bytes each
LOOKS = 8  # at a bucket that a writer is in, before a snapshot goes on without it


class SharedDict(SegmentMapping):
    """A dictionary in shared memory: str keys, typed values, any number of threads in up to 62 processes.

    Reading takes no lock; writing locks one bucket. Arrays and buffers come out as read-only views of the segment, which
    keep their value for as long as they live, whatever happens to the key. The memory has no name: it is gone with the
    last process that has it open.
    """

    def __init__(self, segment: Segment, *, allow_pickle: bool = False) -> None:
        """Take a segment over; use `create` or `attach`."""
        super().__init__(segment, Index(segment), Codec(allow_pickle=allow_pickle))
        self._watcher = Watcher(self._index)
        _LIVE[id(self)] = self

    # ------------------------------------------------------------------ life
    @classmethod
    def create(
        cls,
        bytes: int = 2**28,  # noqa: A002  the public name, as in DESIGN.md
        buckets: int | None = None,
        allow_pickle: bool = False,
    ) -> Self:
        """Make an empty dictionary.

        Args:
            bytes: Room for values, at least 16 MiB. Memory is taken only as it is written. Each process that stores takes
                1 MiB at a time for each size of values (256 B, 512 B, ... 256 KiB), larger values as they are.
            buckets: A power of two; about the number of keys. By default one for each 16 KiB, 1,024 to 65,536.
            allow_pickle: Whether this process stores and reads objects of any type by pickle. Never turn it on where
                a process that you do not trust has the dictionary open.

        Raises:
            ValueError: `bytes` or `buckets` make no sense.
        """
        if bytes <= 0:
            raise ValueError(f"bytes={bytes}: give the room for values, at least 1.")
        if buckets is None:
            wanted = 1 << max(bytes // BYTES_A_BUCKET - 1, 1).bit_length()
            buckets = min(max(wanted, FEWEST_BUCKETS), MOST_DEFAULT_BUCKETS)
        if buckets < 1 or buckets & (buckets - 1) or buckets > MOST_BUCKETS:
            raise ValueError(f"buckets={buckets}: give a power of two, at most {MOST_BUCKETS:,}.")
        seed = secrets.randbits(64)
        try:
            room = max(bytes, LEAST_BYTES)
            fd = Segment.create(KIND_DICTIONARY, body_bytes(buckets), room, (buckets, seed))
        except CoreError as error:
            raise OSError(f"No segment of {bytes:,} bytes: {error}. Ask for less.") from error
        return cls._opened(fd, allow_pickle=allow_pickle)

    @classmethod
    def attach(cls, pid: int, fd: int, allow_pickle: bool = False) -> Self:
        """Open a dictionary that process `pid` of the same user has open as descriptor `fd` (its `fileno()`).

        Children of `multiprocessing` need no attach: pass them the dictionary itself.

        Raises:
            OSError: no such process or descriptor, or another user's.
            WrongLayout: the descriptor is no dictionary of this version.
            PlacesTaken: 62 live processes are attached.
        """
        own = os.open(f"/proc/{pid}/fd/{fd}", os.O_RDWR | os.O_CLOEXEC)
        return cls._opened(own, allow_pickle=allow_pickle)

    @classmethod
    def _opened(cls, fd: int, *, allow_pickle: bool) -> Self:
        segment: Segment | None = None
        try:
            segment = Segment.attach(fd, KIND_DICTIONARY)
            found = cls(segment, allow_pickle=allow_pickle)
            segment.take_place()
        except CoreError as error:
            os.close(fd)
            if segment is None:
                raise WrongLayout(
                    f"Descriptor {fd} is no SharedDict of this version ({error}). Give the one that fileno() returns."
                ) from error
            reason = explained(error, segment, "", 0)
            segment.close()
            raise reason from error
        return found

    def close(self) -> None:
        """Leave the dictionary in this process. Views that are still there stay readable; others go on without us."""
        if self._segment.closed:
            return
        self._segment.close()  # first: whom the watcher tells of the end finds it closed
        self._watcher.stop()
        os.close(self._segment.fd)

    def fileno(self) -> int:
        """Return the descriptor of the segment: with this process's id, what `attach` wants."""
        return self._segment.fd

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_segment") and not self._segment.closed:
            self.close()

    def __repr__(self) -> str:
        if self._segment.closed:
            return "<SharedDict closed>"
        return f"<SharedDict of {len(self):,} keys, {self._segment.arena_bytes:,} bytes, place {self._segment.place}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return _received, (
            type(self),
            reduction.DupFd(self._segment.fd),
            self._codec.allow_pickle,
        )

    def _after_fork(self) -> None:
        """In a forked child: a place of its own. What the parent's views hold, the child's copies of them hold too."""
        if self._segment.closed:
            return
        self._watcher = Watcher(self._index)
        try:
            self._index.after_fork()
        except CoreError:  # no place is free: each use says so
            return

    # ------------------------------------------------------------------ in place
    @contextmanager
    def reserve(
        self, key: str, *, shape: int | tuple[int, ...], dtype: npt.DTypeLike = "float32"
    ) -> Iterator[np.ndarray[Any, Any]]:
        """Give a writable array in the segment; it becomes the value of `key` on leaving, unless an error leaves.

        The array, C order, contains whatever lay there before. It is read-only after leaving; views that were taken of it are
        not, so let them go.

        Raises:
            SegmentFull: there is no room now.
            ValueTooLarge: it would not fit an empty dictionary.
            UnknownType: elements of `dtype` are Python objects.
        """
        kind = np.dtype(dtype)
        sizes = (shape,) if isinstance(shape, int) else tuple(int(n) for n in shape)
        size_bytes = int(np.prod(sizes, dtype=object)) * kind.itemsize
        head = self._codec.array_head(kind, sizes)
        try:
            try:
                room = self._index.reserve(key, ARRAY, head, size_bytes)
            except CoreError as error:
                if error.code != CODES["full"] or not self._reap_dead():
                    raise
                room = self._index.reserve(key, ARRAY, head, size_bytes)
            array: np.ndarray[Any, Any] = np.ndarray(sizes, kind, memoryview(room))
            yield array
            array.flags.writeable = False
            self._index.publish(key, room)
        except CoreError as error:
            raise self._explained(error, key, size_bytes) from error

    def view(self, key: str) -> memoryview:
        """Return the bytes of any value as a read-only view of the segment: 0 copies, also for bytes and str."""
        try:
            found = self._index.get(key)
        except CoreError as error:
            raise self._explained(error, key) from error
        if found is None:
            raise KeyError(key)
        return memoryview(found[2])

    # ------------------------------------------------------------------ wait
    def wait(self, key: str, timeout_s: float | None = None) -> Any:
        """Sleep until the key is there, and return its value.

        Raises:
            TimeoutError: it was not there within `timeout_s` seconds.
        """
        deadline_ns = None if timeout_s is None else now_ns() + int(timeout_s * 1e9)
        try:
            while True:
                version = self._index.version(key)
                found = self._index.get(key, COPIED)
                if found is not None:
                    return self._codec.decode(*found)
                left_ns = SLICE_NS if deadline_ns is None else deadline_ns - now_ns()
                if left_ns <= 0:
                    raise TimeoutError(f"{key!r} was not stored within {timeout_s} s.")
                self._index.wait(key, version, min(left_ns, SLICE_NS))
        except CoreError as error:
            raise self._explained(error, key) from error

    async def wait_async(self, key: str, timeout_s: float | None = None) -> Any:
        """Like `wait`, for a coroutine; the event loop goes on meanwhile.

        Raises:
            TimeoutError: the key was not there within `timeout_s` seconds.
        """
        event = asyncio.Event()
        end_s = None if timeout_s is None else time.monotonic() + timeout_s
        try:
            with self._watcher.watching(key, event, asyncio.get_running_loop()):
                while True:
                    event.clear()
                    found = self._index.get(key, COPIED)
                    if found is not None:
                        return self._codec.decode(*found)
                    left_s = None if end_s is None else end_s - time.monotonic()
                    try:
                        await asyncio.wait_for(event.wait(), left_s)
                    except (asyncio.TimeoutError, TimeoutError) as error:
                        raise TimeoutError(
                            f"{key!r} was not stored within {timeout_s} s."
                        ) from error
        except CoreError as error:
            raise self._explained(error, key) from error

    # ------------------------------------------------------------------ look
    def snapshot(self) -> DictionarySnapshot:
        """Return keys, sizes, writers, readers and ages, without a lock and without disturbing anybody."""
        keys: list[KeySnapshot] = []
        busy = 0
        pids = [self._segment.pid(place) for place in range(PLACES)]
        try:
            for bucket in range(self._index.buckets if len(self) else 0):
                looks = (self._index.observe(bucket) for _ in range(LOOKS))
                seen = next((found for found in looks if found is not None), None)
                busy += seen is None
                for key, kind, size_bytes, made_ns, writer, holders in seen or ():
                    keys.append(
                        KeySnapshot(
                            key=key,
                            kind=KIND_NAMES[kind] if kind < len(KIND_NAMES) else str(kind),
                            size_bytes=size_bytes,
                            age_s=max(now_ns() - made_ns, 0) / 1e9,
                            writer_pid=writer,
                            holder_pids=tuple(
                                pid for place, pid in enumerate(pids) if holders >> place & 1
                            ),
                        )
                    )
        except CoreError as error:
            raise self._explained(error, "") from error
        return DictionarySnapshot(keys=tuple(keys), busy_buckets=busy)

    def statistics(self) -> DictionaryStatistics:
        """Return what is used now, and counters over all processes."""
        keys = len(self)
        used_bytes, used_blocks = self._segment.usage()
        return DictionaryStatistics(
            keys=keys,
            buckets=self._index.buckets,
            segment_bytes=self._segment.segment_bytes,
            arena_bytes=self._segment.arena_bytes,
            used_bytes=used_bytes,
            used_blocks=used_blocks,
            places=PLACES,
            places_taken=sum(self._segment.pid(place) != 0 for place in range(PLACES)),
            **self._index.counters(),
        )


def _received(kind: type[SharedDict], sent: Any, allow_pickle: bool) -> SharedDict:
    """Open what another process sent us: the other end of `__reduce__`."""
    return kind._opened(sent.detach(), allow_pickle=allow_pickle)  # noqa: SLF001  the other half of a method


def _after_fork_in_child() -> None:
    for dictionary in list(_LIVE.values()):
        dictionary._after_fork()  # noqa: SLF001  the interpreter calls functions, not methods of unknown objects


# State of the module, because the interpreter's fork hooks cannot be taken back: one hook, and whoever is alive.
_LIVE: WeakValueDictionary[int, SharedDict] = WeakValueDictionary()
os.register_at_fork(after_in_child=_after_fork_in_child)
