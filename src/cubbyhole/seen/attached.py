# SPDX-License-Identifier: Apache-2.0
"""Find this user's servers and look at them from outside, for reading only.

A server's memory has no name, so that nothing is left behind by a crash. But its processes hold descriptors, and `/proc/<pid>/fd`
gives them to whoever has the same uid. So nothing needs to answer: fronts and workers may hang, be stopped or be dead, as long as
one process lives that holds the memory, say the supervisor.

Flow:  /proc/*/fd -> rosters -> `ServerDescription` -> the segment of the same server
Owns:  one descriptor and mapping for each roster and segment, until `close`.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from cubbyhole.core.clock import now_ns
from cubbyhole.core.errors import CubbyholeError
from cubbyhole.core.failures import FailureRecord, read_failures
from cubbyhole.core.kept import NAME as KEPT_NAME
from cubbyhole.core.kept import KeptRequests
from cubbyhole.core.roster import NAME, Roster, read_description
from cubbyhole.observe.description import ServerDescription
from cubbyhole.seen.payloads import PAYLOAD_BYTES_MOST, Payload, read_payload
from cubbyhole.seen.process_state import process_word

if TYPE_CHECKING:
    from collections.abc import Iterator

    from typing_extensions import Self

    from cubbyhole.channels.shm import SharedMemoryChannel
    from cubbyhole.core.history import EndpointHistograms, FinishedEntry
    from cubbyhole.core.statistics import ChannelStatistics, EntrySnapshot

_ROSTER = f"/memfd:{NAME} (deleted)"
_SEGMENT = "/memfd:cubbyhole (deleted)"
_KEPT = f"/memfd:{KEPT_NAME} (deleted)"
META_BYTES = 64 << 10  # of what goes with a body: headers' names and values
_decode = msgspec.json.Decoder(ServerDescription).decode


class NoServer(CubbyholeError):
    """There is no server to look at, or more than one."""

    code = "no_server"


class AttachedServer:
    """One server, seen from outside."""

    def __init__(
        self,
        description: ServerDescription,
        roster: Roster,
        channel: SharedMemoryChannel,
        kept: KeptRequests | None = None,
    ) -> None:
        self.description = description
        self.roster = roster
        self.kept = kept
        self._channel = channel

    def __enter__(self) -> Self:
        """Be open."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def entries(self, *, past: bool = False) -> list[EntrySnapshot]:
        """Return the entries under way, oldest first; `past`: also the last one of each slot that is free now."""
        found = self._channel.snapshot(past=past)
        return sorted(found, key=lambda entry: entry.received_ns)

    def statistics(self) -> ChannelStatistics:
        """Return the channel's counters."""
        return self._channel.statistics()

    def history(self, most: int | None = None) -> list[FinishedEntry]:
        """Return the last requests that are over, oldest first; those that failed have the code and status of their answer.

        Args:
            most: How many; None: all that are kept.
        """
        codes = {record.id: (record.code, record.status) for record in self.failures()}
        return [
            entry
            if entry.id not in codes
            else msgspec.structs.replace(
                entry, failure=codes[entry.id][0], status=codes[entry.id][1]
            )
            for entry in self._channel.history(most)
        ]

    def histograms(self) -> list[EndpointHistograms]:
        """Return how long the requests of each endpoint were in each phase, since the server was started."""
        return self._channel.histograms()

    def failures(self) -> list[FailureRecord]:
        """Return the last failures of all fronts, oldest first."""
        found: list[FailureRecord] = []
        for front in range(self.roster.fronts):
            with self.roster.failures(front) as ring:
                found += read_failures(ring)
        return sorted(found, key=lambda record: record.failed_ns)

    def deaths(self) -> dict[int, list[FailureRecord]]:
        """Return, by the entry's id, which workers ended while they held it, oldest first."""
        found: dict[int, list[FailureRecord]] = {}
        with self.roster.deaths() as ring:
            for record in read_failures(ring):
                found.setdefault(record.id, []).append(record)
        return found

    def now_ns(self) -> int:
        """Return the moment to which ages belong."""
        return now_ns()

    def worker(self, index: int) -> tuple[int, str]:
        """Return a worker's pid, 0 for none, and what the kernel says of it."""
        pid = self.roster.pid(self.roster.worker_cell(index))
        return pid, process_word(pid) if pid else "dead"

    def payload(self, request_id: int, limit_bytes: int = PAYLOAD_BYTES_MOST) -> Payload | None:
        """Copy what a request carries, each part cut at `limit_bytes`; None: it carries nothing (any more).

        Not redacted: whoever shows it asks `seen.redaction` first.
        """
        found = self._channel.contents(request_id, limit_bytes)
        return None if found is None else read_payload(request_id, found)

    def named(self, request_id: str) -> EntrySnapshot | None:
        """Return the oldest entry under way that has this X-Request-ID of its client, as long as it holds its request."""
        for entry in self.entries():
            found = self._channel.contents(entry.id, META_BYTES)
            if (
                found is not None
                and read_payload(entry.id, found).request_meta.request_id == request_id
            ):
                return entry
        return None

    def path(self, endpoint: int) -> str:
        """Return an endpoint's path."""
        paths = self.description.endpoints
        return paths[endpoint] if endpoint < len(paths) else str(endpoint)

    def close(self) -> None:
        """Unmap."""
        self.roster.close()
        if self.kept is not None:
            self.kept.close()
        self._channel.close()


def find_servers() -> dict[int, tuple[ServerDescription, Path, Path | None]]:
    """Return this user's servers, by the supervisor's pid: what each is, and paths to its roster and its segment."""
    rosters: dict[int, Path] = {}
    segments: dict[int, Path] = {}
    for link, target in _links():
        if target in (_ROSTER, _SEGMENT):
            with contextlib.suppress(OSError):  # it ended while we looked
                inode = link.stat().st_ino
                (rosters if target == _ROSTER else segments).setdefault(inode, link)
    found = {}
    for link in rosters.values():
        with contextlib.suppress(OSError, msgspec.DecodeError):
            fd = os.open(link, os.O_RDONLY | os.O_CLOEXEC)
            try:
                text = read_description(fd)
            finally:
                os.close(fd)
            if text:
                description = _decode(text)
                found[description.pid] = (
                    description,
                    link,
                    segments.get(description.segment),
                )
    return found


def choose(pid: int | None = None) -> tuple[ServerDescription, Path, Path | None]:
    """Return one of this user's servers, as `find_servers` has it.

    Args:
        pid: Of its supervisor; None: the only one there is.

    Raises:
        NoServer: none, or several and no `pid`.
    """
    servers = find_servers()
    if pid is None and len(servers) > 1:
        raise NoServer(f"{len(servers)} servers run.{_offered(servers)}")
    if pid is None and not servers:
        raise NoServer(
            f"No server of yours runs on this machine (looked through /proc for uid {os.geteuid()}). A server in a container, or of "
            "another user, is seen from there: docker exec, sudo -u."
        )
    if pid is not None and pid not in servers:
        raise NoServer(f"No server of yours has pid {pid}{_whose(pid)}.{_offered(servers)}")
    return servers[pid if pid is not None else next(iter(servers))]


def _offered(servers: dict[int, tuple[ServerDescription, Path, Path | None]]) -> str:
    known = "; ".join(f"--server {pid} is at {servers[pid][0].address}" for pid in sorted(servers))
    return f" Choose one: {known}." if known else ""


def _whose(pid: int) -> str:
    """Return why a process that there is cannot be looked at."""
    try:
        uid = Path(f"/proc/{pid}").stat().st_uid
    except OSError:
        return ", nor has any process"
    if uid != os.geteuid():
        return f": that process is of uid {uid}, and you are uid {os.geteuid()}. Run the command as that user (sudo -u)"
    return ": that process is no supervisor of a server"


def attach(pid: int | None = None) -> AttachedServer:
    """Open a server for reading.

    Args:
        pid: Of its supervisor; None: the only one there is.

    Raises:
        NoServer: none, or several and no `pid`; or its entries cannot be seen.
    """
    description, roster_link, segment_link = choose(pid)
    if segment_link is None:
        raise NoServer(
            f'Server {description.pid} uses channel="{description.channel}", whose entries cannot be seen from outside. '
            'Use channel="shm".'
        )
    from cubbyhole.channels.shm import SharedMemoryChannel

    flags = os.O_RDONLY | os.O_CLOEXEC
    sizes = {"fronts": description.fronts, "workers": len(description.workers)}
    try:
        roster_fd = os.open(roster_link, flags)
        roster = Roster(roster_fd, description.fronts, len(description.workers), writable=False)
        segment_fd = os.open(segment_link, flags)
    except OSError as error:
        raise NoServer(f"Server {description.pid} ended while it was looked at.") from error
    channel = SharedMemoryChannel.observe(segment_fd, **sizes, endpoints=len(description.endpoints))
    return AttachedServer(description, roster, channel, _open_kept(description))


def _open_kept(description: ServerDescription) -> KeptRequests | None:
    """Map the requests that a server keeps, where it does."""
    if description.kept:
        for link, target in _links():
            with contextlib.suppress(OSError):  # it ended while we looked
                if target == _KEPT and link.stat().st_ino == description.kept:
                    fd = os.open(link, os.O_RDONLY | os.O_CLOEXEC)
                    return KeptRequests(fd, description.fronts, writable=False)
    return None


def _links() -> Iterator[tuple[Path, str]]:
    """Return the descriptors of all processes of this user, as (path in /proc, what it links to)."""
    uid = os.geteuid()
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        try:
            links = list((process / "fd").iterdir()) if process.stat().st_uid == uid else []
        except OSError:  # ended, or not ours to look at
            continue
        for link in links:
            with contextlib.suppress(OSError):
                yield link, str(link.readlink())
