# SPDX-License-Identifier: Apache-2.0
"""One claim of the article on one channel, in a process of its own.

The front is an asyncio front (`channel_run.Front`), workers are spawned, a third process looks on. Each function answers
one claim with a list of records; the command joins them.

Flow:  article_command.py -> `python -m bench.article_run` (job as JSON on stdin) -> records as JSON on stdout
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import multiprocessing
import os
import signal
import sys
import time
from multiprocessing.connection import wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.article_shapes import SHAPES
from bench.article_worker import hold, onlook, serve_asked, serve_slowly
from cubbyhole.channels.base import ChannelSettings
from cubbyhole.channels.registry import create_channel
from cubbyhole.measuring.channel_run import Front, loop_factory
from cubbyhole.measuring.channel_worker import STOP, serve
from cubbyhole.measuring.processes import CpuMeter, tree
from cubbyhole.measuring.tables import percentile

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from cubbyhole.channels.base import Channel

SPAWN = multiprocessing.get_context("spawn")
Records = list[dict[str, Any]]


def _start(target: Any, *arguments: Any) -> tuple[Any, Any]:
    """Spawn a process whose last argument is a pipe; return it and our end once it said that it is ready."""
    ours, theirs = SPAWN.Pipe()
    process = SPAWN.Process(target=target, args=(*arguments, theirs))
    process.start()
    if not ours.poll(30):
        raise TimeoutError("a process was not ready within 30 s")
    ours.recv_bytes()
    return process, ours


def _faults(pids: list[int]) -> int:
    """Return the minor page faults of processes so far."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            text = Path(f"/proc/{pid}/stat").read_text()
            total += int(text[text.rindex(")") + 2 :].split()[7])
    return total


async def sizes(channel: Channel, job: dict[str, Any], records: Records) -> None:
    """Claim 1, serialization: time, CPU, copies and page faults of a round trip against its size."""
    front = Front(channel.front(0), asyncio.get_running_loop())
    for place, (shape, (make, work, more, of_cpu)) in enumerate(SHAPES.items()):
        worker, pipe = _start(work, channel, place, *more)
        for size in job["sizes"]:
            once = make(front, size)
            large = size > 4 << 20
            least = 5 if not large else 2 if shape == "nested" else 3  # nested: seconds for a turn
            for _ in range(1 if large else 3):
                await once()
            pids = tree(os.getpid())
            meter, faults = CpuMeter([worker.pid]), _faults(pids)
            copied = channel.statistics().copied_bytes_total
            begun, times = time.perf_counter(), []
            while len(times) < least or time.perf_counter() - begun < job["seconds"]:
                times.append(await once())
            count = len(times)
            cpu = meter.per_message_us(count) if of_cpu else {}
            times.sort()
            copied = channel.statistics().copied_bytes_total - copied
            records.append(
                {
                    "case": f"{shape}-{size}",
                    "shape": shape,
                    "size_bytes": size,
                    "p50_us": percentile(times, 0.5) / 1e3,
                    **cpu,
                    "faults": (_faults(pids) - faults) / count,
                    "channel_copies": copied / count / size,
                }
            )
        await asyncio.wait_for(front.call(STOP, failures=True), 20)
        worker.join(5)
        pipe.close()
        channel.reclaim("worker", place)


async def _lags(stop: asyncio.Event) -> list[int]:
    """Sleep a millisecond again and again; return by how much each sleep was late, in ns."""
    late = []
    while not stop.is_set():
        at = time.perf_counter_ns()
        await asyncio.sleep(0.001)
        late.append(max(0, time.perf_counter_ns() - at - 1_000_000))
    return sorted(late)


async def blocking(channel: Channel, job: dict[str, Any], records: Records) -> None:
    """Claim 2, blocking: a consumer is stopped for 2 s while 64 producers submit to it; another consumer goes on."""
    stopped, _ = _start(serve, channel, 0, "echo")
    other, _ = _start(serve_slowly, channel, 1, 1, 0.0)
    front = Front(channel.front(0), asyncio.get_running_loop())
    body = bytes(job["body_bytes"])
    rates: dict[str, int] = {"before": 0, "during": 0}
    phase = "before"
    stop = asyncio.Event()

    async def unrelated() -> None:
        while not stop.is_set():
            await front.call(b"y" * 64, endpoint=1)
            rates[phase] += 1

    lag = asyncio.ensure_future(_lags(stop))
    tasks = [asyncio.ensure_future(unrelated()) for _ in range(4)]
    await front.call(body)
    await asyncio.sleep(1.0)
    os.kill(stopped.pid, signal.SIGSTOP)
    phase = "during"
    submits, begun = [], time.perf_counter()
    pending = []
    for _ in range(64):
        at = time.perf_counter_ns()
        pending.append(asyncio.ensure_future(front.call(body)))
        await asyncio.sleep(0)
        submits.append(time.perf_counter_ns() - at)
    await asyncio.sleep(max(0.0, 2.0 - (time.perf_counter() - begun)))
    took = time.perf_counter() - begun
    os.kill(stopped.pid, signal.SIGCONT)
    answers = await asyncio.wait_for(asyncio.gather(*pending, return_exceptions=True), 60)
    stop.set()
    late = await lag
    await asyncio.wait_for(asyncio.gather(*tasks), 20)
    stopped.kill()
    other.kill()
    submits.sort()
    records.append(
        {
            "case": "stopped-consumer",
            "producer_wait_max_ms": submits[-1] / 1e6,
            "producer_wait_p50_ms": percentile(submits, 0.5) / 1e6,
            "accepted": sum(not isinstance(a, BaseException) for a in answers),
            "unrelated_before_per_s": rates["before"] / 1.0,
            "unrelated_during_per_s": rates["during"] / took,
            "loop_lag_p99_ms": percentile(late, 0.99) / 1e6,
            "loop_lag_max_ms": late[-1] / 1e6,
        }
    )


async def lag(channel: Channel, job: dict[str, Any], records: Records) -> None:
    """Claim 2, blocking: how late the front's event loop is while 50 MiB bodies pass, read as they are given."""
    worker, _ = _start(serve, channel, 0, "echo")
    front = Front(channel.front(0), asyncio.get_running_loop())
    body = bytes(job["body_bytes"])
    await front.call(body)
    stop = asyncio.Event()
    ticking = asyncio.ensure_future(_lags(stop))
    times = []
    for _ in range(job["rounds"]):
        at = time.perf_counter_ns()
        got = await front.call(body)
        times.append(time.perf_counter_ns() - at)
        if len(memoryview(got)) != len(body):
            raise ValueError("an answer differs from its request")
        del got
        await asyncio.sleep(0.005)
    stop.set()
    late = await ticking
    worker.kill()
    times.sort()
    figures = {
        "loop_lag_p99_ms": percentile(late, 0.99) / 1e6,
        "loop_lag_max_ms": late[-1] / 1e6,
        "p50_ms": percentile(times, 0.5) / 1e6,
    }
    records.append({"case": f"{len(body) >> 20}-mib", **figures})


async def visibility(channel: Channel, _job: dict[str, Any], records: Records) -> None:
    """Claim 3, visibility: what a third process sees of a request whose worker is killed, and when its client knows."""
    worker, says = _start(hold, channel, 0)
    front = Front(channel.front(0), asyncio.get_running_loop())
    call = asyncio.ensure_future(front.call(b"z" * 64, failures=True))
    loop = asyncio.get_running_loop()
    await loop.run_in_executor(None, says.recv_bytes)  # it holds the entry
    before = await loop.run_in_executor(None, _seen, channel)
    os.kill(worker.pid, signal.SIGKILL)
    begun = time.perf_counter()
    await loop.run_in_executor(None, wait, [worker.sentinel])
    noticed_s = time.perf_counter() - begun
    after = await loop.run_in_executor(None, _seen, channel)
    looked = time.perf_counter()
    answered = call.done()  # a front that noticed the death by itself has nothing left to show
    changed = channel.reclaim("worker", 0)
    outcome = await asyncio.wait_for(call, 10)
    records.append(
        {
            "case": "worker-killed",
            "seen_before": before,
            "seen_after": after,
            "answered_by_then": answered,
            "reclaimed": changed,
            "answer": getattr(outcome, "code", "a result"),
            # what a supervisor needs: see the death, reclaim, the answer travels; the look between them left out
            "answer_after_death_ms": 1e3 * (noticed_s + time.perf_counter() - looked),
        }
    )


def _seen(channel: Channel) -> list[str]:
    """Return what a fresh third process finds in `snapshot()`."""
    process, says = _start(onlook, channel)
    found: list[str] = says.recv() if says.poll(20) else ["no answer"]
    process.join(5)
    return found


async def access(channel: Channel, job: dict[str, Any], records: Records) -> None:
    """Claim 4, custom access: one at a high rank passes 1,000 that wait; answers are collected as they come, not in order."""
    worker, _ = _start(serve_slowly, channel, 0, 0, job["work_s"])
    asked, _ = _start(serve_asked, channel, 1, 1)
    also, _ = _start(serve_asked, channel, 2, 1)
    front = Front(channel.front(0), asyncio.get_running_loop())
    order: list[int] = []

    async def ask(number: int, rank: int) -> None:
        await front.call(number.to_bytes(4, "little"), rank=rank)
        order.append(number)

    low = [asyncio.ensure_future(ask(n, 1000)) for n in range(job["queued"])]
    await asyncio.sleep(0.05)  # they are on their way, the worker is at the first ones
    already = len(order)
    begun = time.perf_counter()
    await asyncio.wait_for(ask(99_999, 1), 60)
    took = time.perf_counter() - begun
    await asyncio.wait_for(asyncio.gather(*low), 60)
    overtaken_by = order.index(99_999) - already
    figures = {"answered_before_it": overtaken_by, "waited_ms": 1e3 * took}
    records.append({"case": "one-urgent", "queued": job["queued"] - already, **figures})

    slow = asyncio.ensure_future(front.call(job["slow_ms"].to_bytes(4, "little"), endpoint=1))
    await asyncio.sleep(0.05)
    passed = 0
    while passed < job["queued"] and not slow.done():
        await front.call((0).to_bytes(4, "little"), endpoint=1)
        passed += not slow.done()
    await asyncio.wait_for(slow, 30)
    records.append({"case": "one-slow", "passed_it": passed, "slow_ms": job["slow_ms"]})
    for process in (worker, asked, also):
        process.kill()


async def concurrency(channel: Channel, job: dict[str, Any], records: Records) -> None:
    """Claim 5: round trips of 64 B from 1 to 512 in flight, 1 to 4 workers."""
    workers = [_start(serve, channel, n, "echo")[0] for n in range(job["workers"])]
    front = Front(channel.front(0), asyncio.get_running_loop())
    for in_flight in job["in_flight"]:
        times: list[int] = []

        async def one(number: int) -> None:
            body = number.to_bytes(8, "little") * 8
            while time.perf_counter() < until:  # noqa: B023
                at = time.perf_counter_ns()
                if await front.call(body) != body:
                    raise ValueError("an answer differs from its request")
                times.append(time.perf_counter_ns() - at)  # noqa: B023

        meter = CpuMeter(
            [w.pid for w in workers]
        )  # looks through /proc, so before the clock starts
        begun = time.perf_counter()
        until = begun + job["seconds"]
        await asyncio.gather(*(one(n) for n in range(in_flight)))
        took = time.perf_counter() - begun
        count = len(times)
        cpu = meter.per_message_us(count)
        times.sort()
        records.append(
            {
                "case": f"{in_flight}-in-flight-{job['workers']}-workers",
                "in_flight": in_flight,
                "workers": job["workers"],
                "round_trips_per_s": count / took,
                "p50_us": percentile(times, 0.5) / 1e3,
                "p99_us": percentile(times, 0.99) / 1e3,
                **cpu,
            }
        )
    for worker in workers:
        worker.kill()


CLAIMS: dict[str, Callable[[Channel, dict[str, Any], Records], Awaitable[None]]] = {
    "sizes": sizes,
    "blocking": blocking,
    "lag": lag,
    "visibility": visibility,
    "access": access,
    "concurrency": concurrency,
}


def main() -> None:
    job = json.loads(sys.stdin.read())
    settings = ChannelSettings(
        workers=4, endpoints=2, slots=2048, arena_bytes=job.get("arena_bytes", 1 << 30)
    )
    channel = create_channel(job["channel"], settings)
    loop = loop_factory("uvloop")()
    records: Records = []
    failure = ""
    try:
        loop.run_until_complete(
            asyncio.wait_for(CLAIMS[job["claim"]](channel, job, records), job["limit_s"])
        )
    except asyncio.TimeoutError:  # its own class before Python 3.11
        failure = f"no end within {job['limit_s']:.0f} s"
    except Exception as error:  # told beside what was measured before it
        failure = f"{type(error).__name__}: {error}"
    finally:
        for child in multiprocessing.active_children():
            child.kill()
        loop.close()
        channel.close()
    json.dump({"records": records, "failure": failure}, sys.stdout)


if __name__ == "__main__":
    main()
