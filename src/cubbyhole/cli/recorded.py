# SPDX-License-Identifier: Apache-2.0
"""A server as a file remembers it, with the same face as one that is looked at live.

Flow:  requests --file, inspect --file -> **RecordedServer** -> observe/post_mortem.py
Owns:  nothing but what it read.
See:   seen/attached.py
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from cubbyhole.observe.post_mortem import read_post_mortem

if TYPE_CHECKING:
    from pathlib import Path

    from typing_extensions import Self

    from cubbyhole.core.failures import FailureRecord
    from cubbyhole.core.history import FinishedEntry
    from cubbyhole.core.statistics import ChannelStatistics, EntrySnapshot


class RecordedServer:
    """A server at the moment when its supervisor wrote the file.

    Raises:
        NoRecord: the file is none of ours.
    """

    kept = None  # its memory is gone

    def __init__(self, path: Path) -> None:
        self.record = read_post_mortem(path)
        self.description = self.record.description

    def __enter__(self) -> Self:
        """Be open."""
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to close."""

    def now_ns(self) -> int:
        """Return the moment of the record, so that ages are what they were then."""
        return self.record.time_ns

    def entries(self) -> list[EntrySnapshot]:
        """Return the entries that were under way, oldest first."""
        return self.record.entries

    def history(self) -> list[FinishedEntry]:
        """Return the last requests that were over, oldest first; those that failed have the code and status of their answer."""
        records = {one.id: one for one in self.record.failures}
        return [
            msgspec.structs.replace(
                entry, failure=records[entry.id].code, status=records[entry.id].status
            )
            if entry.id in records
            else entry
            for entry in self.record.finished
        ]

    def failures(self) -> list[FailureRecord]:
        """Return the last failures, oldest first."""
        return self.record.failures

    def deaths(self) -> dict[int, list[FailureRecord]]:
        """Return, by the entry's id, which workers ended while they held it, oldest first."""
        found: dict[int, list[FailureRecord]] = {}
        for record in self.record.deaths:
            found.setdefault(record.id, []).append(record)
        return found

    def statistics(self) -> ChannelStatistics:
        """Return the channel's counters."""
        return self.record.statistics

    def path(self, endpoint: int) -> str:
        """Return an endpoint's path."""
        paths = self.description.endpoints
        return paths[endpoint] if endpoint < len(paths) else str(endpoint)

    def worker(self, index: int) -> tuple[int, str]:
        """Return a worker's pid and its state in a word, as they were."""
        for process in self.record.processes:
            if process.role == "worker" and process.index == index:
                return process.pid, process.state
        return 0, "unknown"
