# SPDX-License-Identifier: Apache-2.0
"""A front's end of a channel whose entries live in the fronts: hand out what is asked for, take what comes back.

The counterpart of `asking`. How messages travel is the business of each peer's link, and of the channel that adds and removes
peers.

Flow:  submit -> desk -> (a worker wishes) -> Given -> link;  link -> Final | Part | Broken -> desk -> collect
Owns:  the desk, the peers, the wishes of the workers.
"""

from __future__ import annotations

import selectors
from collections import deque
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from cubbyhole.channels.asked import HeapReservation, make_reservation
from cubbyhole.channels.desk import Desk
from cubbyhole.channels.framing import (
    Broken,
    Bye,
    Credit,
    Final,
    Given,
    Have,
    Nothing,
    Notify,
    Part,
    Retract,
    Want,
)
from cubbyhole.channels.ledger import Ledger, Word
from cubbyhole.core.entries import Collected, RequestEntry, Result, Taken
from cubbyhole.core.errors import ChannelClosed

if TYPE_CHECKING:
    from typing_extensions import Self

    from cubbyhole.channels.framing import Frame, Message
    from cubbyhole.channels.held import Held
    from cubbyhole.channels.rendezvous import Rendezvous
    from cubbyhole.core.entries import Buffer

READ = selectors.EVENT_READ
WRITE = selectors.EVENT_WRITE


class WorkerLink(Protocol):
    """What a connection to a worker must do."""

    closed: bool

    def send(self, message: Message, body: Buffer = b"") -> bool:
        """Send without waiting; returns whether all of it is out."""

    def close(self) -> None:
        """Close the connection."""


class StreamLink(WorkerLink, Protocol):
    """A link with a descriptor of its own."""

    def fileno(self) -> int:
        """Readable when `receive` has something."""

    def flush(self) -> bool:
        """Send what was kept; returns whether all of it is out."""

    def receive(self) -> list[Frame]:
        """Return what has arrived, without waiting."""


class Peer:
    """A worker, as its front knows it."""

    __slots__ = ("blocked", "endpoint", "life", "limit", "link", "notify", "pipes", "worker")

    def __init__(self, link: Any, worker: int, life: int, endpoint: int) -> None:
        self.link = link
        self.worker = worker
        self.life = life
        self.endpoint = endpoint
        self.limit = 0  # a standing wish for so many entries
        self.notify = False  # wants to be told
        self.blocked = False  # its socket is full
        self.pipes: Any = None  # of the pipes channel


class GivingPort:
    """The front port; see `FrontPort`. A channel adds `_hear`, which takes what its transport has, and may replace `_hand_over`."""

    def __init__(self, index: int, ledger: Ledger, rendezvous: Rendezvous) -> None:
        self.index = index
        self.ledger = ledger
        self.rendezvous = rendezvous
        self.cell = ledger.cell_at("front", index)
        self.peers: dict[int, Peer] = {}
        self.selector = selectors.DefaultSelector()
        self.desk: Desk
        self._life = 0
        endpoints = ledger.settings.endpoints
        self._wishing: list[deque[Peer]] = [deque() for _ in range(endpoints)]
        self._listening: list[deque[Peer]] = [deque() for _ in range(endpoints)]
        self.closed = False

    def open(self) -> Self:
        """Begin a life of this front."""
        self._life = self.ledger.begin_life("front", self.index)
        self.desk = Desk(self.index, self.ledger)
        self.selector.register(self.rendezvous.inbox(self.index), READ, None)
        return self

    def _check_life(self) -> None:
        """Raise `ChannelClosed` unless this port is open and its front not declared dead."""
        if self.closed or self.ledger.is_reclaimed(self.cell, self._life):
            raise ChannelClosed(
                f"Front {self.index} was closed or declared dead. Open its port again."
            )

    # Handing out ----------------------------------------------------------------------------------------------

    def submit(self, entry: RequestEntry) -> None:
        """See `FrontPort.submit`."""
        self._check_life()
        self.desk.admit(entry)
        self._serve(entry.endpoint)

    def _serve(self, endpoint: int) -> None:
        """Give to those who wait while there is something, and tell one of those who want to be told."""
        desk = self.desk
        wishing = self._wishing[endpoint]
        while wishing and desk.ready[endpoint]:
            peer = wishing.popleft()
            self._give(peer, peer.limit)
        listening = self._listening[endpoint]
        if desk.ready[endpoint] and listening:
            peer = listening.popleft()
            peer.notify = False
            self._send(peer, Have())

    def _give(self, peer: Peer, limit: int) -> None:
        """Answer a wish."""
        peer.limit = 0
        given = self.desk.give(peer.endpoint, limit, peer, peer.worker)
        if not given:
            self._send(peer, Nothing())
            return
        rest = len(given)
        for held in given:
            rest -= 1
            self._hand_over(peer, held, rest)

    def _hand_over(self, peer: Peer, held: Held, rest: int) -> None:
        """Send an entry; `rest` more follow."""
        entry = held.entry
        message = Given(entry.id, held.row, held.attempt, entry.deadline_ns, entry.meta, rest)
        self._send(peer, message, entry.body)

    def _send(self, peer: Peer, message: Message, body: Buffer = b"") -> None:
        """Send a message; if the socket is full, the rest goes out when there is room."""
        self.ledger.words[self.cell + Word.RINGS] += 1
        if not peer.link.send(message, body) and not peer.blocked:
            peer.blocked = True
            self.selector.modify(peer.link.fileno(), READ | WRITE, peer)

    # What workers say -----------------------------------------------------------------------------------------

    def _take(self, peer: Peer, message: Message, body: Buffer) -> None:
        """Do what a worker's message says; one that is not for a front ends the connection."""
        act = self._take_by_type.get(type(message))
        if act is None:
            peer.link.closed = True
        else:
            act(self, peer, message, body)

    def _on_want(self, peer: Peer, want: Want, _body: Buffer) -> None:
        if want.stay and not self.desk.ready[peer.endpoint]:
            self._wish(peer, want.limit)
        else:
            self._give(peer, want.limit)

    def _wish(self, peer: Peer, limit: int) -> None:
        """Remember that a worker waits for entries."""
        peer.limit = limit
        self._wishing[peer.endpoint].append(peer)

    def _on_retract(self, peer: Peer, _message: Retract, _body: Buffer) -> None:
        if peer.limit:
            peer.limit = 0
            self._wishing[peer.endpoint].remove(peer)
            self._send(peer, Nothing())

    def _on_notify(self, peer: Peer, _message: Notify, _body: Buffer) -> None:
        if self.desk.ready[peer.endpoint]:
            self._send(peer, Have())
        elif not peer.notify:
            peer.notify = True
            self._listening[peer.endpoint].append(peer)

    def _on_final(self, peer: Peer, final: Final, body: Buffer) -> None:
        self.desk.finish(peer, final.id, Result(body, final.status, final.meta), final.done_ns)

    def _on_part(self, peer: Peer, part: Part, body: Buffer) -> None:
        self.desk.chunk(peer, part.id, bytes(body), (part.status, part.meta))

    def _on_broken(self, peer: Peer, broken: Broken, _body: Buffer) -> None:
        self.desk.finish(peer, broken.id, broken.failure, broken.done_ns)

    def _on_bye(self, peer: Peer, _message: Bye, _body: Buffer) -> None:
        peer.link.closed = True

    _take_by_type: ClassVar[dict[type, Any]] = {
        Want: _on_want,
        Retract: _on_retract,
        Notify: _on_notify,
        Final: _on_final,
        Part: _on_part,
        Broken: _on_broken,
        Bye: _on_bye,
    }

    # Peers ----------------------------------------------------------------------------------------------------

    def _welcome(self, peer: Peer) -> None:
        """Add a worker; a former life of it is over."""
        former = self.peers.get(peer.worker)
        if former is not None:
            self._part_from(former)
        self.peers[peer.worker] = peer

    def _is_place(self, worker: int, endpoint: int) -> bool:
        """Return whether such a worker can be."""
        settings = self.ledger.settings
        return worker < settings.workers and endpoint < settings.endpoints

    def _part_from_dead(self) -> None:
        """Forget workers that were declared dead."""
        for peer in list(self.peers.values()):
            if self._is_dead(peer):
                self._part_from(peer)

    def _is_dead(self, peer: Peer) -> bool:
        return self.ledger.is_reclaimed(self.ledger.cell_at("worker", peer.worker), peer.life)

    def _part_from(self, peer: Peer) -> None:
        """Forget a worker; what it held is failed or offered again."""
        if self.peers.get(peer.worker) is peer:
            del self.peers[peer.worker]
        peer.link.close()
        for queue in (self._wishing[peer.endpoint], self._listening[peer.endpoint]):
            if peer in queue:
                queue.remove(peer)
        # What vanishes before it is declared dead is remembered for the supervisor, whose reclaim counts it.
        tell = 0 if self._is_dead(peer) else self.ledger.lost_at(self.index, peer.worker)
        self.desk.lost(peer, tell=tell)
        self._serve(peer.endpoint)

    # Collecting -----------------------------------------------------------------------------------------------

    def _hear(self) -> None:
        """Take what the transport has."""
        raise NotImplementedError

    def collect(self) -> list[Collected]:
        """See `FrontPort.collect`."""
        self._check_life()
        self._hear()
        return self.desk.collect()

    def take_chunks(self, request_id: int) -> Taken:
        """See `FrontPort.take_chunks`."""
        taken, owed = self.desk.take_chunks(request_id)
        if owed is not None and owed.owner is not None:
            self._send(owed.owner, Credit(request_id, owed.taken_chunks, owed.taken_bytes))
        return taken

    def cancel(self, request_id: int) -> bool:
        """See `FrontPort.cancel`."""
        return self.desk.cancel(request_id)

    def reserve(self, size_bytes: int) -> HeapReservation:
        """See `FrontPort.reserve`."""
        return make_reservation(size_bytes, self.ledger)

    def fileno(self) -> int:
        """See `FrontPort.fileno`: an epoll (kqueue) of all connections, which is itself a descriptor."""
        return self.selector.fileno()

    def close(self) -> None:
        """See `FrontPort.close`; the workers see the end of the connection."""
        if self.closed:
            return
        self.closed = True
        if not self.ledger.is_reclaimed(self.cell, self._life):  # else the place is somebody else's
            self.desk.clear()
        for peer in list(self.peers.values()):
            peer.link.close()
        self.peers.clear()
        self.selector.close()


class StreamGivingPort(GivingPort):
    """A front port whose peers come through the rendezvous, each with a descriptor of its own."""

    def _hear(self) -> None:
        """Take what has come through the rendezvous and on every connection."""
        for key, events in self.selector.select(0):
            peer: Peer | None = key.data
            if peer is None:
                self._meet()
                self._part_from_dead()
            elif self.peers.get(peer.worker) is peer:
                self._hear_peer(peer, events)

    def _hear_peer(self, peer: Peer, events: int) -> None:
        """Take what a worker's connection has."""
        link: StreamLink = peer.link
        if events & WRITE and link.flush():
            peer.blocked = False
            self.selector.modify(link.fileno(), READ, peer)
        for message, body in link.receive():
            self._take(peer, message, body)
        if link.closed:
            self._part_from(peer)

    def _meet(self) -> None:
        """Receive those who came through the rendezvous."""
        raise NotImplementedError

    def _part_from(self, peer: Peer) -> None:
        """Forget a worker; what it held is failed or offered again."""
        self.selector.unregister(peer.link.fileno())
        super()._part_from(peer)
