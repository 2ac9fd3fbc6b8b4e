# SPDX-License-Identifier: Apache-2.0
"""Entries over ZeroMQ: a ROUTER in each front, a DEALER in each worker for each front, over ipc://.

Messages are the same MessagePack heads and raw bodies as those of the sockets channel; nothing is pickled. Entries live in their
front (`desk`), which gives a worker what it asks for (`asking`, `giving`): so ranks, cancelling and credit work here too.

Tried and left: PUSH/PULL (hands out round robin, to dead and stopped workers as well, and takes nothing back: 28 of 32 requests
were lost with a killed worker); pyzmq's asyncio layer (55 to 70 us of CPU a message; here the socket's descriptor is watched
directly); a path for ipc:// (a file stays behind after kill -9). On Linux the address is an abstract name, which every user of
the machine could connect to, so a worker must show a secret that only the supervisor's children have; others are not answered.

What it cannot do: ZeroMQ does not tell of a peer's death, so a front learns it from `reclaim` alone, and a worker learns that a
front is gone within half a second; it buffers without bound at a reader that stands still (what is in flight is bounded by
`slots`); entries cannot be seen from outside. Messages pass through an I/O thread in each process.

Flow:  front.submit -> desk -> ROUTER -> DEALER -> AskingPort.claim -> publish -> DEALER -> ROUTER -> desk -> front.collect
Owns:  the ledger's file and the rendezvous (for news of the dead only), until `close`; each port its own context and I/O thread.
"""

from __future__ import annotations

import hmac
import os
import secrets
import selectors
import shutil
import sys
import tempfile
import threading
from typing import TYPE_CHECKING, Any

import msgspec

from cubbyhole.channels.asking import AskingPort
from cubbyhole.channels.base import Capabilities, ChannelSettings, NoOperator, Role
from cubbyhole.channels.framing import Bye, Hello, decoder, encoder
from cubbyhole.channels.giving import READ, GivingPort, Peer
from cubbyhole.channels.held import size_of
from cubbyhole.channels.ledger import Ledger, Word
from cubbyhole.channels.rendezvous import Rendezvous

try:
    import zmq
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        'channel="zmq" needs pyzmq: pip install "cubbyhole[zmq]".', name="zmq"
    ) from error

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Self

    from cubbyhole.channels.framing import Frame, Message
    from cubbyhole.core.entries import Buffer
    from cubbyhole.core.history import EndpointHistograms
    from cubbyhole.core.statistics import ChannelStatistics, EntrySnapshot

_COPY_BELOW_BYTES = 64 << 10  # below, handing memory over costs more than copying it
_FAIR_MESSAGES = 1024  # one call takes no more, so that the event loop has its turn
_LINGER_MS = 1000  # how long a closing port waits until its last messages are out
_HEAD_BYTES = 64 << 20


def _new_socket(context: zmq.Context[Any], kind: int, limit_bytes: int) -> zmq.Socket[Any]:
    sock: zmq.Socket[Any] = context.socket(kind)
    sock.setsockopt(zmq.SNDHWM, 0)  # what is in flight is bounded by slots and credit already
    sock.setsockopt(zmq.RCVHWM, 0)
    sock.setsockopt(zmq.MAXMSGSIZE, limit_bytes + _HEAD_BYTES)
    sock.setsockopt(zmq.LINGER, _LINGER_MS)
    sock.setsockopt(zmq.RECONNECT_IVL, 20)
    return sock


def _has_unread(sock: zmq.Socket[Any]) -> bool:
    return bool(int(sock.getsockopt(zmq.EVENTS)) & zmq.POLLIN)


class _Bell:
    """A descriptor beside ZeroMQ's own, whose signal any send may swallow."""

    def __init__(self) -> None:
        self.fd, self._ring_fd = os.pipe()
        os.set_blocking(self.fd, False)
        os.set_blocking(self._ring_fd, False)
        self._rung = False

    def ring(self) -> None:
        """Make it readable."""
        if not self._rung:
            self._rung = True
            os.write(self._ring_fd, b"!")

    def quiet(self) -> None:
        """Make it unreadable."""
        if self._rung:
            self._rung = False
            os.read(self.fd, 64)

    def close(self) -> None:
        """Close it."""
        os.close(self.fd)
        os.close(self._ring_fd)


class _DealerLink:
    """A worker's connection to a front: see `asked.FrontLink`."""

    def __init__(self, address: str, ledger: Ledger, copied_at: int) -> None:
        self.closed = False
        self._words = ledger.words
        self._copied_at = copied_at
        self._context: zmq.Context[Any] = zmq.Context(1)
        self._sock = _new_socket(self._context, zmq.DEALER, ledger.settings.arena_bytes)
        self._sock.connect(address)
        self._bell = _Bell()
        self._both = selectors.DefaultSelector()
        self._both.register(int(self._sock.getsockopt(zmq.FD)), READ)
        self._both.register(self._bell.fd, READ)
        self._lock = threading.Lock()  # ZeroMQ's sockets know one thread at a time
        self._encode = encoder()
        self._decode = decoder()

    def fileno(self) -> int:
        """Readable when `receive` may have something."""
        return self._both.fileno()

    def send(self, message: Message, body: Buffer = b"") -> bool:
        """Send without waiting; ZeroMQ keeps what the other side does not take."""
        with self._lock:
            if self.closed:
                return True
            self._words[self._copied_at] += size_of(body)
            self._sock.send_multipart(
                (self._encode(message), body), copy=size_of(body) < _COPY_BELOW_BYTES
            )
            if _has_unread(self._sock):
                self._bell.ring()
        return True

    def flush(self) -> bool:
        """Nothing is kept here."""
        return True

    def receive(self) -> list[Frame]:
        """Return what has arrived, without waiting."""
        frames: list[Frame] = []
        with self._lock:
            if self.closed:
                return frames
            self._bell.quiet()
            while True:
                try:
                    parts = self._sock.recv_multipart(zmq.NOBLOCK, copy=False)
                except zmq.Again:
                    break
                message = self._decode(parts[0].buffer)
                if type(message) is Bye:
                    self.closed = True
                    break
                body, copied = _body_of(parts[1])
                self._words[self._copied_at] += copied
                frames.append((message, body))
        return frames

    def close(self) -> None:
        """Say so, and close."""
        self.send(Bye())
        with self._lock:
            self.closed = True
            self._both.close()
            self._bell.close()
            self._sock.close()
        self._context.term()


def _body_of(frame: zmq.Frame) -> tuple[Buffer, int]:
    """Return a body, and how many bytes of it were copied on the way here from the other process."""
    size = len(frame.buffer)
    if size < _COPY_BELOW_BYTES:
        return frame.bytes, 2 * size
    return frame.buffer.toreadonly(), size


class _RouterLink:
    """A worker as one address of the front's ROUTER."""

    def __init__(self, port: ZmqFront, address: bytes) -> None:
        self.closed = False
        self.address = address
        self._port = port

    def send(self, message: Message, body: Buffer = b"") -> bool:
        """Send without waiting; ZeroMQ keeps what the other side does not take."""
        self._port.send_to(self.address, message, body)
        return True

    def close(self) -> None:
        """Say so."""
        if not self.closed:
            self.closed = True
            self._port.send_to(self.address, Bye(), b"")


class ZmqFront(GivingPort):
    """A front's port: see `FrontPort`."""

    def __init__(
        self, index: int, ledger: Ledger, rendezvous: Rendezvous, address: str, token: bytes
    ) -> None:
        super().__init__(index, ledger, rendezvous)
        self._address = address
        self._token = token
        self._sock: zmq.Socket[Any]
        self._context: zmq.Context[Any]
        self._by_address: dict[bytes, Peer] = {}
        self._encode = encoder()
        self._decode = decoder()
        self._hearing = False

    def open(self) -> Self:
        """Begin a life of this front."""
        super().open()
        self._bell = _Bell()
        self._context = zmq.Context(1)
        self._sock = _new_socket(self._context, zmq.ROUTER, self.ledger.settings.arena_bytes)
        self._sock.bind(self._address)
        self.selector.register(int(self._sock.getsockopt(zmq.FD)), READ, self)
        self.selector.register(self._bell.fd, READ, self)
        return self

    def send_to(self, address: bytes, message: Message, body: Buffer) -> None:
        """Send to a worker; what is for one that has gone is dropped."""
        size = size_of(body)
        self.ledger.words[self.cell + Word.COPIED_BYTES] += size
        self._sock.send_multipart(
            (address, self._encode(message), body), copy=size < _COPY_BELOW_BYTES
        )
        # Sending swallows the descriptor's signal, so what has come meanwhile must ring by other means.
        if not self._hearing and _has_unread(self._sock):
            self._bell.ring()

    def _hear(self) -> None:
        """Take what workers have sent, and news of the dead."""
        self._hearing = True
        self._bell.quiet()
        for _ in range(_FAIR_MESSAGES):
            try:
                address, *parts = self._sock.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                break
            self._hear_one(address.bytes, parts)
        else:
            self._bell.ring()
        self._hearing = False
        if self.rendezvous.receive_rings(self.index):
            self._part_from_dead()
            if _has_unread(self._sock):
                self._bell.ring()

    def _hear_one(self, address: bytes, parts: list[zmq.Frame]) -> None:
        peer = self._by_address.get(address)
        try:
            message = self._decode(parts[0].buffer)
            body, copied = _body_of(parts[1])
        except (msgspec.MsgspecError, IndexError):
            return
        if type(message) is Hello:
            known = hmac.compare_digest(message.token, self._token)
            if known and self._is_place(message.worker, message.endpoint):
                link = _RouterLink(self, address)
                peer = Peer(link, message.worker, message.life, message.endpoint)
                self._welcome(peer)
                self._by_address[address] = peer
            return
        if peer is None:
            return  # a stranger, or one that was declared dead
        self.ledger.words[self.cell + Word.COPIED_BYTES] += copied
        self._take(peer, message, body)
        if peer.link.closed:
            self._part_from(peer)

    def _part_from(self, peer: Peer) -> None:
        """Forget a worker; what it held is failed or offered again."""
        self._by_address.pop(peer.link.address, None)
        super()._part_from(peer)

    def close(self) -> None:
        """See `FrontPort.close`."""
        if not self.closed:
            super().close()
            self._sock.close()
            self._context.term()
            self._bell.close()


class ZmqChannel(NoOperator):
    """The channel: see `Channel`."""

    kind = "zmq"
    capabilities = Capabilities(
        zero_copy=False,
        ranks=True,
        credit=True,
        visible=False,
        cancels_queued=True,
        in_place=False,
    )

    def __init__(
        self, ledger: Ledger, rendezvous: Rendezvous, place: str, token: bytes, owned: bool = False
    ) -> None:
        self._ledger = ledger
        self._rendezvous = rendezvous
        self._place = place
        self._token = token
        self._owned = owned  # the process that made the directory removes it

    @classmethod
    def create(cls, settings: ChannelSettings) -> ZmqChannel:
        """Make the channel in the supervisor."""
        if sys.platform == "linux":
            place, owned = f"@cubbyhole-{secrets.token_hex(16)}", False
        else:  # no abstract names: a directory that only this user can enter
            place, owned = tempfile.mkdtemp(prefix="cubbyhole-"), True
        ledger = Ledger.create(settings, shown=False)
        rendezvous = Rendezvous.create(settings.fronts)
        return cls(ledger, rendezvous, place, secrets.token_bytes(16), owned)

    def __reduce__(self) -> tuple[Any, ...]:
        return ZmqChannel, (self._ledger, self._rendezvous, self._place, self._token)

    def _address(self, front: int) -> str:
        return f"ipc://{self._place}/{front}"

    def front(self, index: int) -> ZmqFront:
        """See `Channel.front`."""
        address = self._address(index)
        return ZmqFront(index, self._ledger, self._rendezvous, address, self._token).open()

    def worker(self, index: int, endpoint: int) -> AskingPort:
        """See `Channel.worker`."""
        return AskingPort(index, self._ledger, self._connector(index, endpoint)).open(endpoint)

    def _connector(self, index: int, endpoint: int) -> Callable[[int, int], _DealerLink]:
        copied_at = self._ledger.cell_at("worker", index) + Word.COPIED_BYTES

        def connect(front: int, life: int) -> _DealerLink:
            link = _DealerLink(self._address(front), self._ledger, copied_at)
            link.send(Hello(self._token, index, life, endpoint))
            return link

        return connect

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
        if self._owned:
            shutil.rmtree(self._place, ignore_errors=True)
