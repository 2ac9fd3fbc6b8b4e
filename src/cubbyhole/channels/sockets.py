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

import selectors
from collections import deque
from typing import TYPE_CHECKING, Any, ClassVar

from cubbyhole.channels.asked import HeapReservation, make_reservation
from cubbyhole.channels.asking import AskingPort
from cubbyhole.channels.base import Capabilities, ChannelSettings, Role
from cubbyhole.channels.desk import Desk
from cubbyhole.channels.framing import (
    Broken,
    Credit,
    Final,
    Given,
    Have,
    Link,
    Nothing,
    Notify,
    Part,
    Retract,
    Want,
)
from cubbyhole.channels.ledger import Ledger, Word
from cubbyhole.channels.rendezvous import Rendezvous
from cubbyhole.core.entries import Collected, RequestEntry, Result, Taken
from cubbyhole.core.errors import ChannelClosed

if TYPE_CHECKING:
    from cubbyhole.core.entries import Buffer
    from cubbyhole.core.statistics import ChannelStatistics, EntrySnapshot

_READ = selectors.EVENT_READ
_WRITE = selectors.EVENT_WRITE


class _Peer:
    """A worker's connection at a front."""

    __slots__ = ("blocked", "endpoint", "life", "limit", "link", "waiting", "worker")

    def __init__(self, link: Link, worker: int, life: int, endpoint: int) -> None:
        self.link = link
        self.worker = worker
        self.life = life
        self.endpoint = endpoint
        self.limit = 0  # a standing wish for so many entries
        self.waiting = False  # wants to be told
        self.blocked = False  # its socket is full


class SocketFront:
    """A front's port: see `FrontPort`."""

    def __init__(self, index: int, ledger: Ledger, rendezvous: Rendezvous) -> None:
        self._index = index
        self._ledger = ledger
        self._rendezvous = rendezvous
        self._cell = ledger.cell_at("front", index)
        self._life = 0
        self._selector = selectors.DefaultSelector()
        self._peers: dict[int, _Peer] = {}
        self._desk: Desk
        endpoints = ledger.settings.endpoints
        self._wishing: list[deque[_Peer]] = [deque() for _ in range(endpoints)]
        self._listening: list[deque[_Peer]] = [deque() for _ in range(endpoints)]
        self._closed = False

    def open(self) -> SocketFront:
        """Begin a life of this front."""
        self._life = self._ledger.begin_life("front", self._index)
        self._desk = Desk(self._index, self._ledger)
        self._selector.register(self._rendezvous.inbox(self._index), _READ, None)
        return self

    def submit(self, entry: RequestEntry) -> None:
        """See `FrontPort.submit`."""
        if self._closed or self._ledger.is_reclaimed(self._cell, self._life):
            raise ChannelClosed(
                f"Front {self._index} was closed or declared dead. Open its port again."
            )
        self._desk.admit(entry)
        self._serve(entry.endpoint)

    def _serve(self, endpoint: int) -> None:
        """Give to those who wait while there is something; tell one of those who want to be told."""
        desk = self._desk
        wishing = self._wishing[endpoint]
        while wishing and desk.ready[endpoint]:
            peer = wishing.popleft()
            if peer.limit:
                self._give(peer, peer.limit)
        listening = self._listening[endpoint]
        if desk.ready[endpoint] and listening:
            peer = listening.popleft()
            peer.waiting = False
            self._send(peer, Have())

    def _give(self, peer: _Peer, limit: int) -> None:
        peer.limit = 0
        given = self._desk.give(peer.endpoint, limit, peer, peer.worker)
        if not given:
            self._send(peer, Nothing())
            return
        rest = len(given)
        for held in given:
            rest -= 1
            entry = held.entry
            message = Given(entry.id, held.row, held.attempt, entry.deadline_ns, entry.meta, rest)
            self._send(peer, message, entry.body)

    def _send(self, peer: _Peer, message: Any, body: Buffer = b"") -> None:
        self._ledger.words[self._cell + Word.RINGS] += 1
        if not peer.link.send(message, body) and not peer.blocked:
            peer.blocked = True
            self._selector.modify(peer.link.sock, _READ | _WRITE, peer)

    # What workers say
    # -----------------------------------------------------------------------------------------

    def _on_want(self, peer: _Peer, want: Want, _body: Buffer) -> None:
        if want.stay and not self._desk.ready[peer.endpoint]:
            peer.limit = want.limit
            self._wishing[peer.endpoint].append(peer)
        else:
            self._give(peer, want.limit)

    def _on_retract(self, peer: _Peer, _message: Retract, _body: Buffer) -> None:
        if peer.limit:
            peer.limit = 0
            self._wishing[peer.endpoint].remove(peer)
            self._send(peer, Nothing())

    def _on_notify(self, peer: _Peer, _message: Notify, _body: Buffer) -> None:
        if self._desk.ready[peer.endpoint]:
            self._send(peer, Have())
        elif not peer.waiting:
            peer.waiting = True
            self._listening[peer.endpoint].append(peer)

    def _on_final(self, peer: _Peer, final: Final, body: Buffer) -> None:
        self._desk.finish(peer, final.id, Result(body, final.status, final.meta), final.done_ns)

    def _on_part(self, peer: _Peer, part: Part, body: Buffer) -> None:
        self._desk.chunk(peer, part.id, bytes(body), (part.status, part.meta))

    def _on_broken(self, peer: _Peer, broken: Broken, _body: Buffer) -> None:
        self._desk.finish(peer, broken.id, broken.failure, broken.done_ns)

    _take_by_type: ClassVar[dict[type, Any]] = {
        Want: _on_want,
        Retract: _on_retract,
        Notify: _on_notify,
        Final: _on_final,
        Part: _on_part,
        Broken: _on_broken,
    }

    # Collecting ---------------------------------------------------------------------------------
    # --------------

    def collect(self) -> list[Collected]:
        """See `FrontPort.collect`."""
        for key, events in self._selector.select(0):
            peer: _Peer | None = key.data
            if peer is None:
                self._meet()
            elif self._peers.get(peer.worker) is peer:
                if events & _WRITE and peer.link.flush():
                    peer.blocked = False
                    self._selector.modify(peer.link.sock, _READ, peer)
                for message, body in peer.link.receive():
                    self._take_by_type[type(message)](self, peer, message, body)
                if peer.link.closed:
                    self._part_from(peer)
        return self._desk.collect()

    def _meet(self) -> None:
        for worker, life, endpoint, sock in self._rendezvous.receive(self._index):
            settings = self._ledger.settings
            if worker >= settings.workers or endpoint >= settings.endpoints:
                sock.close()
                continue
            former = self._peers.get(worker)
            if former is not None:
                self._part_from(former)
            link = Link(
                sock, settings.arena_bytes, self._ledger.words, self._cell + Word.COPIED_BYTES
            )
            peer = _Peer(link, worker, life, endpoint)
            self._peers[worker] = peer
            self._selector.register(sock, _READ, peer)
        for peer in list(self._peers.values()):
            if self._ledger.is_reclaimed(self._ledger.cell_at("worker", peer.worker), peer.life):
                self._part_from(peer)

    def _part_from(self, peer: _Peer) -> None:
        """Forget a connection; what its worker held is failed or offered again."""
        del self._peers[peer.worker]
        self._selector.unregister(peer.link.sock)
        peer.link.close()
        for queue in (self._wishing[peer.endpoint], self._listening[peer.endpoint]):
            if peer in queue:
                queue.remove(peer)
        dead = self._ledger.is_reclaimed(self._ledger.cell_at("worker", peer.worker), peer.life)
        tell = 0 if dead else self._ledger.lost_at(self._index, peer.worker)
        self._desk.lost(peer, tell=tell)
        self._serve(peer.endpoint)

    def take_chunks(self, request_id: int) -> Taken:
        """See `FrontPort.take_chunks`."""
        taken, owed = self._desk.take_chunks(request_id)
        if owed is not None and owed.owner is not None:
            self._send(owed.owner, Credit(request_id, owed.taken_chunks, owed.taken_bytes))
        return taken

    def cancel(self, request_id: int) -> bool:
        """See `FrontPort.cancel`."""
        return self._desk.cancel(request_id)

    def reserve(self, size_bytes: int) -> HeapReservation:
        """See `FrontPort.reserve`."""
        return make_reservation(size_bytes, self._ledger)

    def fileno(self) -> int:
        """See `FrontPort.fileno`: an epoll (kqueue) of all connections, which is itself a descriptor."""
        return self._selector.fileno()

    def close(self) -> None:
        """See `FrontPort.close`; the workers see the end of the connection."""
        if self._closed:
            return
        self._closed = True
        self._desk.clear()
        for peer in list(self._peers.values()):
            self._part_from(peer)
        self._selector.close()


class SocketChannel:
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
        return cls(Ledger.create(settings, settings.slots), Rendezvous.create(settings.fronts))

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

    def statistics(self) -> ChannelStatistics:
        """See `Channel.statistics`."""
        return self._ledger.statistics(self.kind)

    def close(self) -> None:
        """See `Channel.close`; ports in other processes stay open until they are closed."""
        self._rendezvous.close()
        self._ledger.close()
