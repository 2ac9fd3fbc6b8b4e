# SPDX-License-Identifier: Apache-2.0
"""Entries over a pool of `multiprocessing.Pipe`s, one for each request in flight, recycled: the reference that the article starts from.

A worker makes a pipe for each request that it may hold and hands the other end to the front; the request comes through it, and its
result, chunks or failure go back through it; then it carries the next one. Who asks for how much, and credit, go over one
connection beside the pool. Bodies are bytes: `send_bytes` and `recv_bytes`, never `send`, which pickles.

What had to be done so that it serves at all:
- The pipes cannot be made before the workers and inherited: a worker that dies in mid-message leaves half of it in its pipe,
  and 1,024 pipes are 2,048 descriptors in every process. So a pool belongs to one worker and dies with it.
- `Connection.send_bytes` blocks while the other side does not read, and `recv_bytes` blocks until the whole message is there:
  on an event loop either stops every other request (2 s for a worker that was stopped for 2 s), and two sides that both write
  stop for ever. So the front does neither: it speaks the Connection's framing itself, over the same descriptor, without
  waiting. The worker uses the standard library's methods as they are.
- A pipe has no queue that several workers could share without a lock (`multiprocessing.Queue` keeps a dead waiter's lock for
  ever), so entries wait in their front (`desk`), which gives a worker as many as it asks for.

Ranks and cancelling come from that desk, not from the pipes. What it cannot do: each body is copied in and out of the kernel and
twice more by `recv_bytes`; nothing can be seen from outside; a worker's `publish` blocks while its front does not read.

Flow:  front.submit -> desk -> pipe -> PipeAskingPort.claim -> publish -> the same pipe -> desk -> front.collect
Owns:  the ledger's file and the rendezvous, until `close`; each worker port its pool.
"""

from __future__ import annotations

import multiprocessing
from collections import deque
from typing import TYPE_CHECKING, Any

from cubbyhole.channels.asked import AskedEntry, Line
from cubbyhole.channels.asking import AskingPort
from cubbyhole.channels.base import Capabilities, ChannelSettings, NoOperator, Role
from cubbyhole.channels.framing import Broken, Final, Given, Link, Nothing, encoder
from cubbyhole.channels.giving import READ, WRITE, Peer, StreamGivingPort
from cubbyhole.channels.held import size_of
from cubbyhole.channels.ledger import Ledger, Word
from cubbyhole.channels.pipe_framing import PREFIX, ControlLink, PipeEnd
from cubbyhole.channels.rendezvous import Rendezvous
from cubbyhole.core.errors import StaleOwner

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection

    from cubbyhole.channels.framing import Message
    from cubbyhole.channels.held import Held
    from cubbyhole.core.entries import Buffer
    from cubbyhole.core.history import EndpointHistograms
    from cubbyhole.core.statistics import ChannelStatistics, EntrySnapshot

_MOST_AT_ONCE = 64  # pipes made for one claim
_INLINE_BYTES = 16 << 10  # up to here a Connection copies a message to send it in one call


class _Pool:
    """The pipes of one worker, at its front."""

    def __init__(self) -> None:
        self.ends: dict[int, PipeEnd] = {}
        self.free: deque[int] = deque()


class PipeFront(StreamGivingPort):
    """A front's port: see `FrontPort`."""

    def _meet(self) -> None:
        """Receive workers and their pipes."""
        for worker, life, endpoint, number, sock in self.rendezvous.receive(self.index):
            sock.setblocking(False)
            peer = self.peers.get(worker)
            if number == 0 and self._is_place(worker, endpoint):
                link = ControlLink(sock, self.ledger, self.cell + Word.COPIED_BYTES)
                peer = Peer(link, worker, life, endpoint)
                peer.pipes = _Pool()
                self._welcome(peer)
                self.selector.register(link.fileno(), READ, peer)
            elif number and peer is not None and peer.life == life:
                end = PipeEnd(sock, peer, number, self.ledger)
                peer.pipes.ends[number] = end
                peer.pipes.free.append(number)
                self.selector.register(sock, READ, end)
            else:
                sock.close()

    def _hear(self) -> None:
        """Take what has come through the rendezvous, the connections and the pipes."""
        for key, events in self.selector.select(0):
            source: Any = key.data
            if source is None:
                self._meet()
                self._part_from_dead()
            elif type(source) is PipeEnd:
                self._hear_pipe(source, events)
            else:
                peer: Peer = source
                if self.peers.get(peer.worker) is peer:
                    self._hear_peer(peer, events)

    def _hear_pipe(self, end: PipeEnd, events: int) -> None:
        peer = end.peer
        if self.peers.get(peer.worker) is not peer:
            return
        if events & WRITE and end.flush():
            end.blocked = False
            self.selector.modify(end.sock, READ, end)
        for message, body in end.receive():
            self._take(peer, message, body)
            if type(message) in (Final, Broken) and end.request_id == message.id:  # type: ignore[union-attr]
                end.request_id = 0
                peer.pipes.free.append(end.number)
        if end.closed:
            self._part_from(peer)

    def _give(self, peer: Peer, limit: int) -> None:
        """Answer a wish, with as many entries as there are free pipes."""
        free = peer.pipes.free
        if len(free) < limit:
            # A worker asks for what it has pipes for; but what it said before on others may not have been heard yet.
            self._meet()
            for end in list(peer.pipes.ends.values()):
                self._hear_pipe(end, READ)
            if self.peers.get(peer.worker) is not peer:
                return
        if free:
            super()._give(peer, min(limit, len(free)))
        else:
            peer.limit = 0
            self._send(peer, Nothing())

    def _hand_over(self, peer: Peer, held: Held, rest: int) -> None:
        """Say on the connection which pipe carries it, and send it through that."""
        entry = held.entry
        number = peer.pipes.free.popleft()
        end: PipeEnd = peer.pipes.ends[number]
        end.request_id = entry.id
        self._send(
            peer,
            Given(entry.id, held.row, held.attempt, entry.deadline_ns, entry.meta, rest, number),
        )
        if not end.send_bytes(entry.body) and not end.blocked:
            end.blocked = True
            self.selector.modify(end.sock, READ | WRITE, end)

    def _part_from(self, peer: Peer) -> None:
        """Forget a worker and its pipes; what it held is failed or offered again."""
        self._close_pool(peer)
        super()._part_from(peer)

    def _close_pool(self, peer: Peer) -> None:
        for end in peer.pipes.ends.values():
            self.selector.unregister(end.sock)
            end.close()
        peer.pipes.ends.clear()
        peer.pipes.free.clear()

    def close(self) -> None:
        """See `FrontPort.close`."""
        if not self.closed:
            for peer in self.peers.values():
                self._close_pool(peer)
        super().close()


class _WorkerPool:
    """The pipes of one worker to one front."""

    def __init__(self) -> None:
        self.made = 0
        self.ends: dict[int, Connection] = {}
        self.free = 0


class PipeAskingPort(AskingPort):
    """A worker's port: see `WorkerPort`."""

    def __init__(
        self,
        index: int,
        ledger: Ledger,
        connect: Callable[[int, int], Link | None],
        hand: Callable[[int, int, int, int], bool],
    ) -> None:
        super().__init__(index, ledger, connect)
        self._hand = hand
        self._copied_at = ledger.cell_at("worker", index) + Word.COPIED_BYTES
        self._encode = encoder()

    def ask(self, line: Line, limit: int, *, stay: bool) -> None:
        """Ask for no more than there are pipes to carry; make what is missing."""
        if line.asked:
            return
        if line.pool is None:
            line.pool = _WorkerPool()
        pool: _WorkerPool = line.pool
        wanted = min(limit, _MOST_AT_ONCE)
        while pool.free < wanted and self._make_pipe(line.front, pool):
            pass
        super().ask(line, max(1, min(wanted, pool.free)), stay=stay)

    def _make_pipe(self, front: int, pool: _WorkerPool) -> bool:
        try:
            mine, theirs = multiprocessing.Pipe()
        except OSError:
            return False  # no descriptor is free: hold fewer entries at a time
        number = pool.made + 1
        handed = self._hand(front, self.life, number, theirs.fileno())
        theirs.close()
        if not handed:
            mine.close()
            return False
        pool.made = number
        pool.free += 1
        pool.ends[number] = mine
        return True

    def receive(self, line: Line, given: Given, body: Buffer) -> AskedEntry | None:
        """Receive an entry through its pipe."""
        pool: _WorkerPool = line.pool
        with self.condition:  # other threads publish, and count what they free
            pool.free -= 1
        try:
            body = pool.ends[given.pipe].recv_bytes()
        except (EOFError, OSError):
            line.link.closed = True  # its front ended in the middle of it
            return None
        # Out of the kernel, into a BytesIO, out of that.
        self.words[self._copied_at] += 3 * len(body)
        return AskedEntry(self.is_cancelled, line, given, body)

    def answer(self, entry: AskedEntry, message: Message, body: Buffer = b"") -> None:
        """Send an outcome through the entry's pipe; it is free again after a final one."""
        line = entry.line
        pool: _WorkerPool = line.pool
        size = size_of(body)
        head = self._encode(message)
        prefix = PREFIX.pack(len(head), size) + head
        try:
            end = pool.ends[entry.pipe]
            if size <= _INLINE_BYTES:
                end.send_bytes(prefix + bytes(body))
                self.words[self._copied_at] += 3 * size
            else:
                end.send_bytes(prefix)
                end.send_bytes(memoryview(body).cast("B"))
                self.words[self._copied_at] += size
        except (KeyError, OSError) as error:
            line.link.closed = True
            raise StaleOwner(f"The front of entry {entry.id} has gone. Drop the entry.") from error
        if type(message) in (Final, Broken):
            with self.condition:
                pool.free += 1

    def drop(self, line: Line) -> None:
        """Forget a front and the pipes to it."""
        super().drop(line)
        if line.pool is not None:
            for end in line.pool.ends.values():
                end.close()
            line.pool.ends.clear()


class PipeChannel(NoOperator):
    """The channel: see `Channel`."""

    kind = "pipes"
    capabilities = Capabilities(
        zero_copy=False,
        ranks=True,
        credit=True,
        visible=False,
        cancels_queued=True,
        in_place=False,
    )

    def __init__(self, ledger: Ledger, rendezvous: Rendezvous) -> None:
        self._ledger = ledger
        self._rendezvous = rendezvous

    @classmethod
    def create(cls, settings: ChannelSettings) -> PipeChannel:
        """Make the channel in the supervisor."""
        return cls(Ledger.create(settings, shown=False), Rendezvous.create(settings.fronts))

    def front(self, index: int) -> PipeFront:
        """See `Channel.front`."""
        return PipeFront(index, self._ledger, self._rendezvous).open()

    def worker(self, index: int, endpoint: int) -> AskingPort:
        """See `Channel.worker`."""
        ledger, rendezvous = self._ledger, self._rendezvous
        copied_at = ledger.cell_at("worker", index) + Word.COPIED_BYTES

        def connect(front: int, life: int) -> Link | None:
            sock = rendezvous.invite(front, index, life, endpoint)
            return None if sock is None else ControlLink(sock, ledger, copied_at)

        def hand(front: int, life: int, number: int, fd: int) -> bool:
            return rendezvous.hand(front, (index, life, endpoint, number), fd)

        return PipeAskingPort(index, ledger, connect, hand).open(endpoint)

    def reclaim(self, role: Role, index: int) -> int:
        """See `Channel.reclaim`."""
        count = self._ledger.reclaim(role, index)
        for front in range(self._ledger.settings.fronts):
            self._rendezvous.ring(front)
        return count

    def snapshot(self) -> list[EntrySnapshot]:
        """See `Channel.snapshot`: nothing is seen."""
        return self._ledger.snapshot()

    def histograms(self) -> list[EndpointHistograms]:
        """See `Channel.histograms`: nothing is kept of what is over."""
        return []

    def statistics(self) -> ChannelStatistics:
        """See `Channel.statistics`."""
        return self._ledger.statistics(self.kind)

    def close(self) -> None:
        """See `Channel.close`."""
        self._rendezvous.close()
        self._ledger.close()
