# SPDX-License-Identifier: Apache-2.0
"""One run of one channel: an asyncio front with K requests in flight, a spawned worker, every answer checked.

The front is what a server's front is: `submit`, a future for each request, `collect` when the descriptor rings.
CPU is by process clock over front and worker, and for each; what other processes a channel needs (the Manager) is counted too.

Flow:  channels_command.py -> `python -m bench.channel_run` (job as JSON on stdin) -> result as JSON on stdout
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import sys
import time
from typing import Any

from bench.channel_worker import HEAD_BYTES, STOP, look, serve
from bench.figures import percentile
from bench.processes import cpu_by_process_s
from cubbyhole.channels.base import Channel, ChannelSettings, FrontPort
from cubbyhole.channels.registry import create_channel
from cubbyhole.core.clock import now_ns
from cubbyhole.core.entries import RequestEntry, Result


class Front:
    """`await call(body)` over a port."""

    def __init__(self, port: FrontPort, loop: asyncio.AbstractEventLoop) -> None:
        self.port = port
        self.loop = loop
        self.waiting: dict[int, asyncio.Future[Any]] = {}
        self.next_id = 1 << 48
        loop.add_reader(port.fileno(), self.drain)

    def drain(self) -> None:
        pop = self.waiting.pop
        for collected in self.port.collect():
            future = pop(collected.id)
            future.set_result(collected.outcome)

    async def call(
        self, body: Any, *, endpoint: int = 0, rank: int = 0, failures: bool = False
    ) -> Any:
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
        self.loop.remove_reader(self.port.fileno())
        self.port.close()


async def _small(front: Front, job: dict[str, Any]) -> dict[str, Any]:
    """K coroutines, each with one request in flight, for a fixed time."""
    size, in_flight, mode = job["size_bytes"], job["in_flight"], job["mode"]
    latencies: list[int] = []
    counting = False
    stop = False

    def note(begun: int) -> None:
        if counting:
            latencies.append(time.perf_counter_ns() - begun)

    async def echo(number: int) -> None:
        sent = number.to_bytes(4, "little") + bytes(size - 4)
        call, clock = front.call, time.perf_counter_ns
        while not stop:
            begun = clock()
            got = await call(sent)
            note(begun)
            if got != sent:
                raise ValueError("an answer differs from its request")
            del got

    async def arrays(number: int) -> None:
        import numpy as np

        sent = np.arange(size // 4, dtype=np.float32) + number
        body, raw, count = sent.data.cast("B"), sent.tobytes(), sent.size
        first, last = sent.item(0), sent.item(-1)
        call, clock = front.call, time.perf_counter_ns
        turns = 0
        while not stop:
            begun = clock()
            array = np.frombuffer(await call(body), np.float32)
            note(begun)
            turns += 1
            # head and tail each time, every byte each 64th time: a whole comparison would be the most of the figure
            right = array.size == count and array.item(0) == first and array.item(-1) == last
            if not right or (not turns % 64 and array.tobytes() != raw):
                raise ValueError("an answer differs from its request")
            del array

    one = arrays if mode == "array" else echo
    tasks = [asyncio.ensure_future(one(n)) for n in range(in_flight)]

    async def phase(seconds: float) -> None:
        done, _ = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()

    await phase(job["warmup_s"])
    before, begun, counting = cpu_by_process_s(os.getpid()), time.perf_counter(), True
    await phase(job["seconds"])
    count, took_s = len(latencies), time.perf_counter() - begun
    after = cpu_by_process_s(os.getpid())
    counting, stop = False, True
    await asyncio.wait_for(asyncio.gather(*tasks), 20)
    latencies.sort()
    used = {pid: after[pid] - before.get(pid, 0.0) for pid in after}
    return {
        "round_trips": count,
        "round_trips_per_s": count / took_s,
        "p50_us": percentile(latencies, 0.5) / 1e3,
        "p99_us": percentile(latencies, 0.99) / 1e3,
        "cpu_us": 1e6 * sum(used.values()) / max(count, 1),
        "front_cpu_us": 1e6 * used.pop(os.getpid(), 0.0) / max(count, 1),
        "others_cpu_us": 1e6 * sum(used.values()) / max(count, 1),
    }


async def _large(front: Front, job: dict[str, Any]) -> dict[str, Any]:
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
            block = front.port.reserve(size)
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
    if name == "asyncio":
        return asyncio.new_event_loop
    import uvloop

    return uvloop.new_event_loop


def _run(channel: Channel, job: dict[str, Any], worker: Any) -> dict[str, Any]:
    loop = loop_factory(job["loop"])()
    try:
        return loop.run_until_complete(_drive(channel, job, worker))
    finally:
        loop.close()


async def _drive(channel: Channel, job: dict[str, Any], worker: Any) -> dict[str, Any]:
    front = Front(channel.front(0), asyncio.get_running_loop())
    try:
        shape = _large if job["size_bytes"] > 1 << 20 else _small
        figures = await asyncio.wait_for(shape(front, job), 120)
        await asyncio.wait_for(front.call(STOP, failures=True), 10)
        figures["rings"] = float(channel.statistics().rings_total)
        return figures
    finally:
        worker.join(3)
        if worker.is_alive():
            worker.kill()
        front.close()


def main() -> None:
    job = json.loads(sys.stdin.read())
    json.dump(measure(job), sys.stdout)


if __name__ == "__main__":
    main()
