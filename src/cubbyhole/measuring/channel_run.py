# SPDX-License-Identifier: Apache-2.0
"""One run of one channel: an asyncio front with K requests in flight, a spawned worker, every answer checked.

The front is what a server's front is: `submit`, a future for each request, `collect` when the descriptor rings.
CPU is by process clock over front and worker, and for each; what other processes a channel needs (the Manager) is counted too.

Flow:  channels.py -> `python -m cubbyhole.measuring.channel_run` (job as JSON on stdin) -> result as JSON on stdout
Owns:  the channel and the worker's process, for one run.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import sys
import time
from typing import Any

from cubbyhole.channels.base import Channel, ChannelSettings, FrontPort
from cubbyhole.channels.registry import create_channel
from cubbyhole.core.clock import now_ns
from cubbyhole.core.entries import RequestEntry, Result
from cubbyhole.measuring.channel_worker import HEAD_BYTES, STOP, look, serve
from cubbyhole.measuring.processes import CpuMeter
from cubbyhole.measuring.tables import percentile

_WHOLE_BYTES = 64 << 10  # up to here an answer is compared with its request byte by byte


class Front:
    """`await call(body)` over a port."""

    def __init__(self, port: FrontPort, loop: asyncio.AbstractEventLoop) -> None:
        self.port = port
        self.loop = loop
        self.waiting: dict[int, asyncio.Future[Any]] = {}
        self.next_id = 1 << 48
        loop.add_reader(port.fileno(), self.drain)

    def drain(self) -> None:
        """Give each answer that is there to whom waits for it."""
        pop = self.waiting.pop
        for collected in self.port.collect():
            future = pop(collected.id)
            future.set_result(collected.outcome)

    async def call(
        self, body: Any, *, endpoint: int = 0, rank: int = 0, failures: bool = False
    ) -> Any:
        """Submit a body; return what came of it: the result's body, or with `failures` the outcome, whatever it is."""
        self.next_id = request_id = self.next_id + 1
        future = self.waiting[request_id] = self.loop.create_future()
        self.port.submit(RequestEntry(request_id, endpoint, body, b"", rank))
        del body  # the channel has it; a lease must not outlive its answer here
        outcome = await future
        if failures:
            return outcome
        if type(outcome) is not Result:
            raise ValueError(f"a failure came back: {outcome}")
        return outcome.body

    def close(self) -> None:
        """Give the place back."""
        self.loop.remove_reader(self.port.fileno())
        self.port.close()


class Window:
    """The part of a run that counts."""

    def __init__(self) -> None:
        self.latencies_ns: list[int] = []
        self.counting = False
        self.ended = False

    def note(self, begun_ns: int) -> None:
        """Count a round trip that began then."""
        if self.counting:
            self.latencies_ns.append(time.perf_counter_ns() - begun_ns)


async def echo(front: Front, window: Window, number: int, size: int) -> None:
    """Send one body again and again."""
    sent = number.to_bytes(4, "little") + bytes(size - 4)
    call, clock, note = front.call, time.perf_counter_ns, window.note
    while not window.ended:
        begun = clock()
        got = await call(sent)
        note(begun)
        # a view of a large body is compared at its ends: a whole comparison would be the most of the figure
        right = got == sent if size <= _WHOLE_BYTES else _same_ends(got, sent)
        if not right:
            raise ValueError("an answer differs from its request")
        del got


def _same_ends(got: Any, sent: bytes) -> bool:
    view = memoryview(got)
    return len(view) == len(sent) and view[:8] == sent[:8] and view[-8:] == sent[-8:]


async def array(front: Front, window: Window, number: int, size: int) -> None:
    """Send one array again and again, and read what comes back as one."""
    import numpy as np

    sent = np.arange(size // 4, dtype=np.float32) + number
    body, raw, count = sent.data.cast("B"), sent.tobytes(), sent.size
    first, last = sent.item(0), sent.item(-1)
    call, clock, note = front.call, time.perf_counter_ns, window.note
    turns = 0
    while not window.ended:
        begun = clock()
        array = np.frombuffer(await call(body), np.float32)
        note(begun)
        turns += 1
        # head and tail each time, every byte each 64th time: a whole comparison would be the most of the figure
        right = array.size == count and array.item(0) == first and array.item(-1) == last
        if not right or (not turns % 64 and array.tobytes() != raw):
            raise ValueError("an answer differs from its request")
        del array


async def _small(front: Front, job: dict[str, Any], worker: int) -> dict[str, Any]:
    """K coroutines, each with one request in flight, for a fixed time."""
    window = Window()
    one = array if job["mode"] == "array" else echo
    size = job["size_bytes"]
    tasks = [asyncio.ensure_future(one(front, window, n, size)) for n in range(job["in_flight"])]

    async def phase(seconds: float) -> None:
        done, _ = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()

    await phase(job["warmup_s"])
    meter, begun, window.counting = CpuMeter([worker]), time.perf_counter(), True
    await phase(job["seconds"])
    count, took_s = len(window.latencies_ns), time.perf_counter() - begun
    cpu = meter.per_message_us(count)
    window.counting, window.ended = False, True
    await asyncio.wait_for(asyncio.gather(*tasks), 20)
    latencies = sorted(window.latencies_ns)
    return {
        "round_trips": count,
        "round_trips_per_s": count / took_s,
        "p50_us": percentile(latencies, 0.5) / 1e3,
        "p99_us": percentile(latencies, 0.99) / 1e3,
        **cpu,
    }


async def _large(front: Front, job: dict[str, Any], _worker: int) -> dict[str, Any]:
    """One large body at a time. `views`: copied in by submit. `place`: written in place before the clock starts."""
    import numpy as np

    size = job["size_bytes"]
    source = np.arange(size // 4, dtype=np.float32)
    latencies: list[int] = []
    for turn in range(job["rounds"] + 2):
        source[0] = source[-1] = float(turn)
        head = source[: HEAD_BYTES // 4].tobytes()
        tail = source[-HEAD_BYTES // 4 :].tobytes()
        body: Any = source.data.cast("B")
        if job["place"]:
            block: Any = front.port.reserve(size)
            memoryview(block).cast("B")[:] = body
            body = block
            del block
        begun = time.perf_counter_ns()
        call = front.call(body)
        del body
        got = await call
        view = memoryview(got).cast("B")
        right = bytes(view[:HEAD_BYTES]) == head and bytes(view[-HEAD_BYTES:]) == tail
        took = time.perf_counter_ns() - begun
        expected = 2 * HEAD_BYTES if job["mode"] == "ack" else size
        if not right or len(view) != expected:
            raise ValueError("an answer differs from its request")
        del view, got
        if turn >= 2:  # the first rounds fault the pages in
            latencies.append(took)
    latencies.sort()
    return {
        "p50_ms": percentile(latencies, 0.5) / 1e6,
        "max_ms": latencies[-1] / 1e6,
        "min_ms": latencies[0] / 1e6,
        "rounds": len(latencies),
    }


def _look(channel: Channel, context: Any) -> dict[str, Any]:
    """One entry waits, nobody claims it; a third process reads it again and again."""
    port = channel.front(0)
    request_id = (1 << 48) + 7
    port.submit(RequestEntry(request_id, 0, b"x" * 64, received_ns=now_ns()))
    ours, theirs = context.Pipe()
    process = context.Process(target=look, args=(channel, request_id, 2000, theirs))
    process.start()
    if not ours.poll(60):
        raise TimeoutError("the onlooker gave no answer within 60 s")
    seen, micros = ours.recv()
    process.join(10)
    port.cancel(request_id)
    port.close()
    return {"look_us": micros, "visible": float(seen)} if seen else {"visible": 0.0}


def measure(job: dict[str, Any]) -> dict[str, Any]:
    """Make the channel and its worker, and run the job."""
    arena = 1 << 30 if job["size_bytes"] > 1 << 20 else 1 << 28
    channel = create_channel(job["channel"], ChannelSettings(slots=1024, arena_bytes=arena))
    context = multiprocessing.get_context("spawn")
    try:
        if job["mode"] == "look":
            return _look(channel, context)
        ours, theirs = context.Pipe()
        arguments = (channel, 0, job["mode"], theirs)
        worker = context.Process(target=serve, args=arguments)
        worker.start()
        if not ours.poll(30):
            raise TimeoutError("the worker was not ready within 30 s")
        ours.recv_bytes()
        return _run(channel, job, worker)
    finally:
        channel.close()


def loop_factory(name: str) -> Any:
    """Return what makes an event loop of that name."""
    if name == "asyncio":
        return asyncio.new_event_loop
    import uvloop

    return uvloop.new_event_loop


def _run(channel: Channel, job: dict[str, Any], worker: Any) -> dict[str, Any]:
    loop = loop_factory(job["loop"])()
    try:
        figures: dict[str, Any] = loop.run_until_complete(_drive(channel, job, worker))
        return figures
    finally:
        loop.close()


async def _drive(channel: Channel, job: dict[str, Any], worker: Any) -> dict[str, Any]:
    front = Front(channel.front(0), asyncio.get_running_loop())
    try:
        shape = _large if job["size_bytes"] > 1 << 20 else _small
        figures = await asyncio.wait_for(shape(front, job, worker.pid), 120)
        await asyncio.wait_for(front.call(STOP, failures=True), 10)
        figures["rings"] = float(channel.statistics().rings_total)
        return figures
    finally:
        worker.join(3)
        if worker.is_alive():
            worker.kill()
        front.close()


def main() -> None:
    """Run the job on stdin."""
    job = json.loads(sys.stdin.read())
    json.dump(measure(job), sys.stdout)


if __name__ == "__main__":
    main()
