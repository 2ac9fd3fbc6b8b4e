# SPDX-License-Identifier: Apache-2.0
"""Dictionaries that several processes share, each behind the same four calls. Imports only what it measures.

A store is made in one process (`make`, with room for values of that size), travels to spawned children as a picklable handle, and
is opened there (`open`).
All values of the peers are what their interface gives; arrays go in and come out as arrays.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import shutil
import subprocess
import tempfile
import time
from typing import Any

ROOM_BYTES = 1 << 28


class Store:
    """`d[key] = value` and `d[key]` as the store's own interface does it."""

    name = ""
    package = ""  # what must be importable in its environment

    @classmethod
    def lacks(cls) -> str:
        """Return what this machine lacks for it; empty: nothing that can be seen beforehand."""
        return ""

    def make(self, value_bytes: int) -> Any:
        """Create it for values up to that size; return a handle that pickles."""
        raise NotImplementedError

    def open(self, handle: Any) -> Any:
        """Return a mapping."""
        return handle

    def end(self) -> None:
        """Remove it."""


class Ours(Store):
    name = "SharedDict"

    def make(self, value_bytes: int) -> Any:
        import cubbyhole

        self.mapping = cubbyhole.SharedDict.create(bytes=ROOM_BYTES)
        return self.mapping

    def end(self) -> None:
        self.mapping.close()


class Managed(Store):
    name = "Manager().dict()"

    def make(self, value_bytes: int) -> Any:
        self.manager = multiprocessing.get_context("spawn").Manager()
        return self.manager.dict()

    def end(self) -> None:
        self.manager.shutdown()


class Ultra(Store):
    """The whole dictionary is dumped when the stream of updates is full; values over the buffer go to a full dump."""

    name = "UltraDict"
    package = "UltraDict"

    def make(self, value_bytes: int) -> Any:
        from UltraDict import UltraDict

        self.mapping = UltraDict(
            shared_lock=True, buffer_size=1 << 24, full_dump_size=1 << 26, auto_unlink=True
        )
        return self.mapping.name

    def open(self, handle: Any) -> Any:
        from UltraDict import UltraDict

        return UltraDict(name=handle, create=False, shared_lock=True)

    def end(self) -> None:
        with contextlib.suppress(Exception):
            self.mapping.unlink()


class SharedMemoryDictionary(Store):
    """Every write pickles the whole dictionary, every read copies all of its memory, so it is made no larger than it must be.

    The lock is asked for by an environment variable.
    """

    name = "shared-memory-dict"
    package = "shared_memory_dict"

    def make(self, value_bytes: int) -> Any:
        os.environ["SHARED_MEMORY_USE_LOCK"] = "1"
        from shared_memory_dict import SharedMemoryDict

        name, size = f"bench-{os.getpid()}-{time.monotonic_ns()}", 6 * value_bytes + (1 << 14)
        self.mapping = SharedMemoryDict(name=name, size=size)
        return name, size

    def open(self, handle: Any) -> Any:
        os.environ["SHARED_MEMORY_USE_LOCK"] = "1"
        from shared_memory_dict import SharedMemoryDict

        return SharedMemoryDict(name=handle[0], size=handle[1])

    def end(self) -> None:
        with contextlib.suppress(Exception):
            self.mapping.shm.close()
            self.mapping.shm.unlink()


class _Lmdb:
    def __init__(self, path: str) -> None:
        import lmdb

        self.environment = lmdb.open(path, map_size=1 << 30, sync=False, metasync=False)

    def __setitem__(self, key: str, value: Any) -> None:
        with self.environment.begin(write=True) as transaction:
            transaction.put(key.encode(), memoryview(value).cast("B"))

    def __getitem__(self, key: str) -> bytes:
        with self.environment.begin() as transaction:
            found = transaction.get(key.encode())
        if found is None:
            raise KeyError(key)
        return bytes(found)


class Lmdb(Store):
    """A memory-mapped B-tree in /dev/shm, without syncs. Bytes only."""

    name = "lmdb"
    package = "lmdb"

    def make(self, value_bytes: int) -> Any:
        self.path = tempfile.mkdtemp(prefix="bench-lmdb-", dir="/dev/shm")
        return self.path

    def open(self, handle: Any) -> Any:
        return _Lmdb(handle)

    def end(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)


class Disk(Store):
    """SQLite and files in /dev/shm."""

    name = "diskcache"
    package = "diskcache"

    def make(self, value_bytes: int) -> Any:
        self.path = tempfile.mkdtemp(prefix="bench-disk-", dir="/dev/shm")
        return self.path

    def open(self, handle: Any) -> Any:
        import diskcache

        return diskcache.Cache(handle, size_limit=1 << 30, timeout=5)

    def end(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)


class _Redis:
    def __init__(self, path: str) -> None:
        import redis

        self.client = redis.Redis(unix_socket_path=path)

    def __setitem__(self, key: str, value: Any) -> None:
        self.client.set(key, memoryview(value).cast("B"))

    def __getitem__(self, key: str) -> bytes:
        found = self.client.get(key)
        if found is None:
            raise KeyError(key)
        return bytes(found)


class Redis(Store):
    """A server of its own over a Unix socket, nothing written to disk. Bytes only."""

    name = "Redis"
    package = "redis"

    @classmethod
    def lacks(cls) -> str:
        return "" if shutil.which("redis-server") else "no redis-server on this machine"

    def make(self, value_bytes: int) -> Any:
        self.folder = tempfile.mkdtemp(prefix="bench-redis-")
        path = os.path.join(self.folder, "s")  # noqa: PTH118  (only what is measured is imported)
        words = ["--port", "0", "--unixsocket", path, "--save", "", "--appendonly", "no"]
        self.process = subprocess.Popen(
            ["redis-server", *words, "--dir", self.folder],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until = time.monotonic() + 10
        while not os.path.exists(path):  # noqa: PTH110
            if self.process.poll() is not None or time.monotonic() > until:
                self.end()
                raise RuntimeError("redis-server did not open its socket within 10 s")
            time.sleep(0.01)
        return path

    def open(self, handle: Any) -> Any:
        return _Redis(handle)

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


STORES: dict[str, type[Store]] = {
    s.name: s for s in (Ours, Managed, Ultra, SharedMemoryDictionary, Lmdb, Disk, Redis)
}
