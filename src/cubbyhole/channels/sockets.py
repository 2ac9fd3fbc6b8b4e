# SPDX-License-Identifier: Apache-2.0
"""Entries over Unix stream sockets, in pure Python: the fallback where the native core cannot be built.

Each entry lives in its front (`desk`); workers ask for entries over their own connection to each
front (`asking`), so a slow worker never holds more than it asked for. Workers find fronts through
inherited descriptors (`rendezvous`); the counters, the `cancelled` flags and a row for each entry
are in an anonymous file (`ledger`), so all of it can be seen from outside.

Tried and left: a broker in the supervisor (twice the copies and wake-ups, and one process that
holds everything up); datagram sockets shared by all workers (the kernel hands out fairly, but in
order of arrival, and takes nothing back); SEQPACKET (ends near 256 KiB). What it costs: a request
and its result are copied into the kernel and out of it; a front that does not run its loop hands
nothing out, and a worker's `publish` waits once the socket is full.

Flow:  front.submit -> desk -> (worker asked) Given -> AskingPort.claim -> publish -> Final -> desk
       -> front.collect
Owns:  the ledger's file and the rendezvous, until `close`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cubbyhole.channels.asking import AskingPort
from cubbyhole.channels.base import Capabilities, ChannelSettings, NoOperator, Role
from cubbyhole.channels.framing import Link
from cubbyhole.channels.giving import READ, Peer, StreamGivingPort
from cubbyhole.channels.ledger import Ledger, Word
from cubbyhole.channels.rendezvous import Rendezvous

if TYPE_CHECKING:
    from cubbyhole.core.history import EndpointHistograms
    from cubbyhole.core.statistics import ChannelStatistics, EntrySnapshot


class SocketFront(StreamGivingPort):
    """A front's port: see `FrontPort`."""

    def _meet(self) -> None:
        """Receive workers, each with its connection."""
        ledger = self.ledger
        for worker, life, endpoint, _number, sock in self.rendezvous.receive(self.index):
            if not self._is_place(worker, endpoint):
                sock.close()
                continue
            copied_at = self.cell + Word.COPIED_BYTES
            link = Link(sock, ledger.settings.arena_bytes, ledger.words, copied_at)
            peer = Peer(link, worker, life, endpoint)
            self._welcome(peer)
            self.selector.register(link.fileno(), READ, peer)


class SocketChannel(NoOperator):
    """The channel: see `Channel`."""

    kind = "sockets"
    capabilities = Capabilities(
        zero_copy=False,
        ranks=True,
        credit=True,
        visible=True,
        cancels_queued=True,
        in_place=False,
    )

    def __init__(self, ledger: Ledger, rendezvous: Rendezvous) -> None:
        self._ledger = ledger
        self._rendezvous = rendezvous

    @classmethod
    def create(cls, settings: ChannelSettings) -> SocketChannel:
        """Make the channel in the supervisor."""
        return cls(Ledger.create(settings, shown=True), Rendezvous.create(settings.fronts))

    def front(self, index: int) -> SocketFront:
        """See `Channel.front`."""
        return SocketFront(index, self._ledger, self._rendezvous).open()

    def worker(self, index: int, endpoint: int) -> AskingPort:
        """See `Channel.worker`."""
        ledger = self._ledger
        copied_at = ledger.cell_at("worker", index) + Word.COPIED_BYTES

        def connect(front: int, life: int) -> Link | None:
            sock = self._rendezvous.invite(front, index, life, endpoint)
            if sock is None:
                return None
            return Link(sock, ledger.settings.arena_bytes, ledger.words, copied_at)

        return AskingPort(index, self._ledger, connect).open(endpoint)

    def reclaim(self, role: Role, index: int) -> int:
        """See `Channel.reclaim`."""
        count = self._ledger.reclaim(role, index)
        for front in range(self._ledger.settings.fronts):
            self._rendezvous.ring(front)
        return count

    def snapshot(self) -> list[EntrySnapshot]:
        """See `Channel.snapshot`."""
        return self._ledger.snapshot()

    def histograms(self) -> list[EndpointHistograms]:
        """See `Channel.histograms`: nothing is kept of what is over."""
        return []

    def statistics(self) -> ChannelStatistics:
        """See `Channel.statistics`."""
        return self._ledger.statistics(self.kind)

    def close(self) -> None:
        """See `Channel.close`; ports in other processes stay open until they are closed."""
        self._rendezvous.close()
        self._ledger.close()
