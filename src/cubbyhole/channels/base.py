# SPDX-License-Identifier: Apache-2.0
"""The contract of a channel.

Six verbs carry every request; two more look at them. Fronts and workers hold *ports*; the supervisor holds the channel.

    front   submit(entry)                 FREE -> READY
    worker  claim(max, wait)              READY -> CLAIMED, smallest rank first
    worker  publish(entry, outcome)       CLAIMED -> DONE | FAILED, or a chunk: -> STREAMING
    front   collect()                     DONE | FAILED -> FREE; take_chunks(id) while STREAMING
    front   cancel(id)                    READY -> FREE, later: a flag that the worker sees
    super   reclaim(role, index)          what a dead process held -> FAILED(worker_died), or READY again
    super   cancel(id), rerank(id, rank)  an operator's, where `capabilities.operated`
    any     snapshot(), statistics(), histograms()

Rules that every channel keeps, and that `tests/contract` checks for each:
- No verb of a front blocks: no room is `ChannelFull`, raised at once.
- An entry is claimed by exactly one worker at a time, only by workers of its endpoint, and answered exactly once.
- What a worker publishes after its place was reclaimed is refused with `StaleOwner`.
- A dead worker's entries come back to their front as `Failure("worker_died", 503)`, or are offered again where they ask for it;
  one that `POISON_AFTER` workers died of fails as `Failure("poison", 500)`.
- An entry whose deadline passed is never claimed; its front collects `Failure("expired", 504)`.
- `cancel` of an unclaimed entry means that no worker will ever see it.
- An entry that the supervisor cancels is answered at once as `CANCELLED_BY_OPERATOR`, whether a worker has it or not.
- A channel pickles into spawned children (`multiprocessing` "spawn") and survives `fork`; ports are opened in the process that uses them.
- What a channel cannot do it says in `capabilities`, and the suite checks that it indeed does not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

import msgspec

from cubbyhole.core.errors import NotOffered

if TYPE_CHECKING:
    from cubbyhole.core.entries import (
        ClaimedEntry,
        Collected,
        Outcome,
        RequestEntry,
        Taken,
    )
    from cubbyhole.core.history import EndpointHistograms
    from cubbyhole.core.statistics import ChannelStatistics, EntrySnapshot

Role: TypeAlias = Literal["front", "worker"]


class Capabilities(msgspec.Struct, frozen=True, kw_only=True):
    """What a channel can do beyond carrying entries."""

    zero_copy: bool  # large bodies arrive as views of shared memory
    ranks: bool  # claim follows `rank`, not arrival
    credit: bool  # a slow reader of a stream slows its writer
    visible: bool  # `snapshot()` shows every entry, from any process, also after a worker's death
    cancels_queued: bool  # an unclaimed entry can be taken back
    in_place: bool  # `reserve` gives memory that the other side reads without a copy
    history: bool = (
        False  # `histograms()` says how long the requests that are over were in each phase
    )
    operated: bool = (
        False  # the supervisor can cancel an entry, and change the rank of one that waits
    )


class ChannelSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Sizes of a channel.

    Attributes:
        fronts: HTTP processes, >= 1.
        workers: Model processes over all endpoints, >= 1.
        endpoints: APIs of the server, >= 1; each has its own queue.
        slots: Requests in flight for each front.
        arena_bytes: Room for payloads that do not fit a slot. Touched, and so paid for, only as far as it is used.
    """

    fronts: int = 1
    workers: int = 1
    endpoints: int = 1
    slots: int = 1024
    arena_bytes: int = 1 << 30


class NoOperator:
    """For channels whose entries live in their fronts: whoever is no front cannot reach them."""

    kind: str

    def cancel(self, request_id: int) -> bool | None:
        """See `Channel.cancel`."""
        raise self._not_offered(f"Entry {request_id} was not cancelled")

    def rerank(self, request_id: int, rank: int) -> bool | None:
        """See `Channel.rerank`."""
        raise self._not_offered(f"Entry {request_id} was not given rank {rank}")

    def _not_offered(self, what: str) -> NotOffered:
        return NotOffered(
            f'{what}: over channel="{self.kind}" an entry belongs to its front, and only that can reach it. '
            'Use channel="shm"; there, operators can cancel and re-rank.'
        )


class Reservation(Protocol):
    """Memory of the channel that the caller fills: hand it over as the body of an entry or a result.

    It speaks the buffer protocol (`memoryview(reservation)`, writable). Dropped without being handed over, it is freed.
    """

    @property
    def size_bytes(self) -> int:
        """How much was asked for."""


class FrontPort(Protocol):
    """A front's end. Not thread-safe: it belongs to one event loop."""

    def submit(self, entry: RequestEntry) -> None:
        """Put an entry on its way. Raises `ChannelFull`, `EntryTooLarge`."""

    def reserve(self, size_bytes: int) -> Reservation:
        """Room for a request body, to be filled while it arrives. Raises `ChannelFull`, `EntryTooLarge`."""

    def collect(self) -> list[Collected]:
        """Everything that is new, without waiting: final outcomes, and streams that have chunks."""

    def take_chunks(self, request_id: int) -> Taken:
        """Take what a stream has; gives its writer credit. Call it again only after the bytes were passed on."""

    def cancel(self, request_id: int) -> bool:
        """Nobody waits any more. True if no worker will see the entry; else its worker sees `cancelled`."""

    def fileno(self) -> int:
        """A descriptor that is readable when `collect` has something; `collect` makes it quiet again."""

    def close(self) -> None:
        """Give the place back; entries still under way are cancelled."""


class WorkerPort(Protocol):
    """A worker's end. `publish` may be called from other threads than `claim`, one at a time for each entry."""

    def claim(self, max_entries: int, wait_s: float) -> list[ClaimedEntry]:
        """Take up to `max_entries` ready entries, smallest rank first; wait up to `wait_s` for the first one only."""

    def publish(self, entry: ClaimedEntry, outcome: Outcome, wait_s: float = 0.0) -> bool:
        """Give an entry its outcome.

        Returns:
            False only for a `Chunk` that found no credit within `wait_s` (try again, the chunk was not taken).

        Raises:
            StaleOwner: the place was reclaimed, or the entry is no longer this worker's.
            EntryTooLarge, ChannelFull: the body has no room. The entry stays claimed: publish a Failure.
        """

    def reserve(self, size_bytes: int) -> Reservation:
        """Room for a result body. Raises `ChannelFull`, `EntryTooLarge`."""

    def listen(self) -> bool:
        """Ask for a ring at the next submit. False: something is ready already, claim instead of sleeping.

        For event loops: `fileno` becomes readable at the ring (or when a stream has credit again), `claim` makes it quiet.
        """

    def fileno(self) -> int:
        """A descriptor that is readable after a ring; see `listen`."""

    def close(self) -> None:
        """Give the place back."""


class Channel(Protocol):
    """The supervisor's end, and the way to the ports. Pickles into spawned children."""

    @property
    def kind(self) -> str:
        """The registry's name: "shm", "pipes", ..."""

    @property
    def capabilities(self) -> Capabilities:
        """What it can do beyond carrying entries."""

    def front(self, index: int) -> FrontPort:
        """Open the port of front `index` (0..fronts-1), in the process that uses it; again after its death and reclaim."""

    def worker(self, index: int, endpoint: int) -> WorkerPort:
        """Open the port of worker `index` (0..workers-1) for one endpoint; again after its death and reclaim."""

    def reclaim(self, role: Role, index: int) -> int:
        """Free what a dead process held; safe to repeat. Returns how many entries it changed."""

    def cancel(self, request_id: int) -> bool | None:
        """Take an entry back; its front collects `CANCELLED_BY_OPERATOR`.

        Returns:
            True if no worker will see it, False if one has it and sees `cancelled`, None if it is over or never was.

        Raises:
            NotOffered: `capabilities.operated` is False.
        """

    def rerank(self, request_id: int, rank: int) -> bool | None:
        """Give an unclaimed entry another rank.

        Returns:
            True if it is claimed by that rank, False if a worker has it already, None if it is over or never was.

        Raises:
            NotOffered: `capabilities.operated` is False.
        """

    def snapshot(self) -> list[EntrySnapshot]:
        """Every entry there is now, without its payload and without stopping anybody."""

    def statistics(self) -> ChannelStatistics:
        """Counters since the channel was made, over all processes."""

    def histograms(self) -> list[EndpointHistograms]:
        """Times and sizes of the requests that are over, for each endpoint; empty without the capability `history`."""

    def close(self) -> None:
        """Free what this process has of it."""
