# SPDX-License-Identifier: Apache-2.0
"""Where the checks of a channel play: a front on its own event loop, workers in threads, and real processes to kill.

Flow:  check -> Stage -> LiveFront (asyncio loop in a thread), EchoWorker (thread), Actor (spawned process)
Owns:  the channel, every port, thread and process that a check opened; `Stage.close` ends them all.
See:   testing/check_channel.py (the suite)
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import select
import signal
import threading
from contextlib import ExitStack, suppress
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from cubbyhole.channels.base import ChannelSettings
from cubbyhole.core.entries import RequestEntry, Result
from cubbyhole.core.errors import ChannelError

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection

    from cubbyhole.channels.base import Channel, FrontPort, WorkerPort
    from cubbyhole.core.entries import ClaimedEntry, Collected, Failure, Taken

    CreateChannel: TypeAlias = Callable[[ChannelSettings], Channel]

T = TypeVar("T")
PATIENCE_S = 10.0  # after this a check gives up; nothing here takes more than a fraction of it


class ContractBroken(AssertionError):
    """A channel does not keep a rule of `channels.base`."""


def expect(condition: object, what: str, *seen: object) -> None:
    """Raise `ContractBroken` saying what was expected and what was seen."""
    if not condition:
        raise ContractBroken(what + (f"; seen: {', '.join(map(repr, seen))}" if seen else ""))


def until(look: Callable[[], T], what: str, patience_s: float = PATIENCE_S) -> T:
    """Call `look` until it returns something true, or raise `ContractBroken`."""
    deadline = monotonic() + patience_s
    pause = threading.Event()
    while True:
        found = look()
        if found:
            return found
        expect(monotonic() < deadline, f"{what} did not happen within {patience_s:.0f} s")
        pause.wait(0.002)


def is_readable(fd: int, wait_s: float = 0.0) -> bool:
    """Return whether a descriptor becomes readable within `wait_s`."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(wait_s * 1000))


class LiveFront:
    """A front port on an event loop of its own, as in a server: it collects whenever its descriptor is readable."""

    def __init__(self, open_port: Callable[[], FrontPort]) -> None:
        self._open_port = open_port
        self._port: FrontPort
        self._loop: asyncio.AbstractEventLoop
        self._started = threading.Event()
        self._changed = threading.Condition()
        self._news: list[Collected] = []
        self.reading = True  # take the chunks of streams as they come
        self.streams: dict[int, list[Taken]] = {}
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="live-front", daemon=True)

    def start(self) -> LiveFront:
        """Open the port and begin to collect."""
        self._thread.start()
        expect(self._started.wait(PATIENCE_S), "the front port did not open")
        if self._error is not None:
            raise self._error
        return self

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._end = asyncio.Event()
        try:
            self._port = self._open_port()
        except ChannelError as error:
            self._error = error
            self._started.set()
            return
        self._loop.add_reader(self._port.fileno(), self._collect)
        self._started.set()
        await self._end.wait()
        self._loop.remove_reader(self._port.fileno())
        self._port.close()

    def _collect(self) -> None:
        try:
            news = self._port.collect()
        except ChannelError as error:  # declared dead: a check asks for it
            self._error = error
            self._loop.remove_reader(self._port.fileno())
            return
        with self._changed:
            self._news += news
            for item in news:
                if item.outcome is None:
                    self.streams.setdefault(item.id, [])
                    if self.reading:
                        self.streams[item.id].append(self._port.take_chunks(item.id))
            self._changed.notify_all()

    def call(self, act: Callable[[FrontPort], T]) -> T:
        """Run `act(port)` on the event loop and return what it returns."""

        async def run() -> T:
            result = act(self._port)
            self._collect()  # as after any turn of a server's loop
            return result

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(PATIENCE_S)

    def submit(self, *entries: RequestEntry) -> None:
        """Submit entries in order."""
        for entry in entries:
            self.call(lambda port, entry=entry: port.submit(entry))  # type: ignore[misc]

    def cancel(self, request_id: int) -> bool:
        """Cancel."""
        return self.call(lambda port: port.cancel(request_id))

    def final(self, request_id: int, patience_s: float = PATIENCE_S) -> Collected:
        """Wait for the final outcome of an entry that is no stream."""
        return self.finals([request_id], patience_s)[request_id]

    def finals(self, ids: list[int], patience_s: float = PATIENCE_S) -> dict[int, Collected]:
        """Wait for the final outcomes of entries; each must come exactly once."""
        wanted = set(ids)

        def found() -> dict[int, Collected]:
            return {item.id: item for item in self._news if item.outcome is not None}

        with self._changed:
            self._changed.wait_for(lambda: wanted <= found().keys(), patience_s)
            missing = sorted(wanted - found().keys())
            expect(not missing, f"{len(missing)} of {len(ids)} outcomes did not come", missing[:5])
            finals = [item.id for item in self._news if item.outcome is not None]
        expect(len(finals) == len(set(finals)), "an outcome came twice", finals[:20])
        return {key: value for key, value in found().items() if key in wanted}

    def seen(self, request_id: int) -> bool:
        """Return whether anything of an entry was collected."""
        return any(item.id == request_id for item in self._news)

    def stream_end(self, request_id: int) -> tuple[list[bytes], Result | Failure]:
        """Wait for the end of a stream; returns its chunks and its end."""

        def ended() -> bool:
            taken = self.streams.get(request_id)
            return bool(taken and taken[-1].end is not None)

        with self._changed:
            self._changed.wait_for(ended, PATIENCE_S)
            expect(ended(), f"stream {request_id} did not end", self.streams.get(request_id))
            taken = self.streams[request_id]
        end = taken[-1].end
        if end is None:
            raise ContractBroken("a stream has no end")
        return [bytes(chunk) for part in taken for chunk in part.chunks], end

    def close(self) -> None:
        """Close the port and end the loop."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(PATIENCE_S)


class EchoWorker:
    """A worker in a thread that answers with what it got, until it is told to stop."""

    def __init__(
        self, open_port: Callable[[], WorkerPort], max_entries: int, claim_wait_s: float = 0.2
    ) -> None:
        self._open_port = open_port
        self._max_entries = max_entries
        self._claim_wait_s = claim_wait_s
        self._stop = threading.Event()
        self.claimed: list[int] = []
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="echo-worker", daemon=True)

    def start(self) -> EchoWorker:
        """Begin to claim."""
        self._thread.start()
        return self

    def _run(self) -> None:
        try:
            port = self._open_port()
            while not self._stop.is_set():
                for entry in port.claim(self._max_entries, self._claim_wait_s):
                    self.claimed.append(entry.id)
                    port.publish(entry, Result(entry.body))
            port.close()
        except ChannelError as error:
            self.error = error

    def close(self) -> None:
        """Stop after the present claim."""
        self._stop.set()
        self._thread.join(PATIENCE_S)


class Actor:
    """A real process of a check. Its `play(channel, connection, *args)` must be a module-level function."""

    def __init__(self, play: Callable[..., None], channel: Channel, args: tuple[Any, ...]) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection: Connection
        self.connection, self._theirs = context.Pipe()
        self.process = context.Process(
            target=play, args=(channel, self._theirs, *args), daemon=True
        )

    def start(self) -> Actor:
        """Start the process."""
        self.process.start()
        self._theirs.close()
        return self

    def hears(self, patience_s: float = PATIENCE_S) -> Any:
        """Return the next thing that the process says."""
        expect(self.connection.poll(patience_s), "a process of the check did not report")
        try:
            return self.connection.recv()
        except EOFError:
            raise ContractBroken("a process of the check ended before it reported") from None

    def kill(self) -> None:
        """End it with SIGKILL, wherever it is, and wait until it is gone."""
        if self.process.is_alive() and self.process.pid is not None:
            os.kill(self.process.pid, signal.SIGKILL)
        self.process.join(PATIENCE_S)

    def close(self) -> None:
        """End it."""
        self.kill()
        self.connection.close()
        self.process.close()


class Stage:
    """One channel, and all that a check opens on it."""

    def __init__(self, create: CreateChannel) -> None:
        self._create = create
        self._stack = ExitStack()
        self.channel: Channel

    def open(self, **sizes: int) -> Channel:
        """Make the channel with these `ChannelSettings`."""
        settings = ChannelSettings(**({"workers": 2, "slots": 64, "arena_bytes": 64 << 20} | sizes))
        self.channel = self._create(settings)
        self._stack.callback(self.channel.close)
        return self.channel

    def front(self, index: int = 0) -> LiveFront:
        """Open a front on an event loop of its own."""
        front = LiveFront(lambda: self.channel.front(index)).start()
        self._stack.callback(front.close)
        return front

    def raw_front(self, index: int = 0) -> FrontPort:
        """Open a front port that the check drives itself."""
        port = self.channel.front(index)
        self._stack.callback(port.close)
        return port

    def worker(self, index: int = 0, endpoint: int = 0) -> WorkerPort:
        """Open a worker port that the check drives itself."""
        port = self.channel.worker(index, endpoint)
        self._stack.callback(port.close)
        return port

    def echo(self, index: int = 0, endpoint: int = 0, max_entries: int = 4) -> EchoWorker:
        """Start a worker that answers with what it got."""
        worker = EchoWorker(lambda: self.channel.worker(index, endpoint), max_entries).start()
        self._stack.callback(worker.close)
        return worker

    def actor(self, play: Callable[..., None], *args: Any) -> Actor:
        """Start a real process."""
        actor = Actor(play, self.channel, args).start()
        self._stack.callback(actor.close)
        return actor

    def close(self) -> None:
        """End everything, last opened first."""
        self._stack.close()


def claim(port: WorkerPort, count: int = 1, patience_s: float = PATIENCE_S) -> list[ClaimedEntry]:
    """Claim until `count` entries are there."""
    entries: list[ClaimedEntry] = []
    deadline = monotonic() + patience_s
    while len(entries) < count:
        entries += port.claim(count - len(entries), 0.2)
        expect(monotonic() < deadline, f"only {len(entries)} of {count} entries could be claimed")
    return entries


def outcome_of(item: Collected) -> Result:
    """Return the result, or say which failure is there instead."""
    expect(type(item.outcome) is Result, f"entry {item.id} has no result", item.outcome)
    return item.outcome  # type: ignore[return-value]


def collect_until(port: FrontPort, count: int) -> list[Collected]:
    """Collect from a port only when its descriptor says so, until `count` items are there."""
    items: list[Collected] = []
    deadline = monotonic() + PATIENCE_S
    while len(items) < count:
        readable = is_readable(port.fileno(), max(0.0, deadline - monotonic()))
        expect(readable, f"the descriptor stayed quiet with {len(items)} of {count} collected")
        items += port.collect()
    return items


def settle(port: FrontPort) -> list[Collected]:
    """Collect until the descriptor is quiet; it must become so."""
    items = []
    for _ in range(100):
        items += port.collect()
        if not is_readable(port.fileno(), 0.02):
            return items
    raise ContractBroken("the descriptor stays readable though everything was collected")


def quietly_close(port: Any) -> None:
    """Close what may be closed already."""
    with suppress(ChannelError):
        port.close()
