# SPDX-License-Identifier: Apache-2.0
"""The project's performance budget as data: each line is computed from one result file.

`ours` and `peer` name (workload, contender, figure); `of` says what is compared with the limit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from cubbyhole.measuring.tables import Summary


@dataclass(frozen=True)
class Target:
    text: str
    value: Callable[[Callable[[str, str, str], float]], float]
    limit: float
    at_least: bool
    unit: str


def _t(text: str, value: Any, limit: float, unit: str, *, at_least: bool) -> Target:
    return Target(text, value, limit, at_least, unit)


US = "cubbyhole"
SERVERS: list[Target] = [
    _t(
        "no-op CPU per request, all processes",
        lambda g: g("noop-32", US, "server_cpu_ms"),
        0.10,
        "ms",
        at_least=False,
    ),
    _t(
        "no-op req/s, 32 conn., over LitServe's",
        lambda g: g("noop-32", US, "requests_per_s") / g("noop-32", "litserve", "requests_per_s"),
        10,
        "x",
        at_least=True,
    ),
    _t(
        "no-op req/s, 128 conn., over LitServe's",
        lambda g: g("noop-128", US, "requests_per_s") / g("noop-128", "litserve", "requests_per_s"),
        10,
        "x",
        at_least=True,
    ),
    _t(
        "no-op req/s, 32 conn., over mosec's",
        lambda g: g("noop-32", US, "requests_per_s") / g("noop-32", "mosec", "requests_per_s"),
        1.7,
        "x",
        at_least=True,
    ),
    _t(
        "no-op req/s, 128 conn., over mosec's",
        lambda g: g("noop-128", US, "requests_per_s") / g("noop-128", "mosec", "requests_per_s"),
        1.7,
        "x",
        at_least=True,
    ),
    _t(
        "no-op req/s, 32 conn., over bare ASGI's",
        lambda g: g("noop-32", US, "requests_per_s") / g("noop-32", "bare", "requests_per_s"),
        0.7,
        "x",
        at_least=True,
    ),
    _t(
        "no-op req/s, 128 conn., over bare ASGI's",
        lambda g: g("noop-128", US, "requests_per_s") / g("noop-128", "bare", "requests_per_s"),
        0.7,
        "x",
        at_least=True,
    ),
    _t(
        "p50 at one connection, above bare ASGI's",
        lambda g: g("noop-1", US, "p50_ms") - g("noop-1", "bare", "p50_ms"),
        0.10,
        "ms",
        at_least=False,
    ),
    _t(
        "4 MiB req/s over mosec's",
        lambda g: g("raw-4m", US, "requests_per_s") / g("raw-4m", "mosec", "requests_per_s"),
        1.5,
        "x",
        at_least=True,
    ),
    _t(
        "4 MiB req/s over LitServe's",
        lambda g: g("raw-4m", US, "requests_per_s") / g("raw-4m", "litserve", "requests_per_s"),
        5,
        "x",
        at_least=True,
    ),
    _t(
        "4 MiB req/s over bare ASGI's",
        lambda g: g("raw-4m", US, "requests_per_s") / g("raw-4m", "bare", "requests_per_s"),
        1,
        "x",
        at_least=True,
    ),
    _t(
        "batch of 32 at 10 ms, of the ideal",
        lambda g: 100 * g("batch-32", US, "of_ideal"),
        93,
        "%",
        at_least=True,
    ),
    _t(
        "5 ms model, 4 workers, of the ideal",
        lambda g: 100 * g("sleep-4", US, "of_ideal"),
        90,
        "%",
        at_least=True,
    ),
    _t(
        "streams, chunks/s",
        lambda g: g("stream-16", US, "chunks_per_s"),
        60000,
        "/s",
        at_least=True,
    ),
    _t(
        "streams, first chunk p50",
        lambda g: g("stream-16", US, "first_chunk_p50_ms"),
        15,
        "ms",
        at_least=False,
    ),
    _t(
        "idle CPU, batching on, of a core",
        lambda g: g("idle", US, "idle_percent"),
        0.5,
        "%",
        at_least=False,
    ),
    _t(
        "memory, one worker (PSS)", lambda g: g("noop-32", US, "pss_mib"), 80, "MiB", at_least=False
    ),
    _t(
        "start to the first right answer",
        lambda g: g("start", US, "start_s"),
        0.8,
        "s",
        at_least=False,
    ),
]

CHANNELS: list[Target] = [
    _t(
        "64 B, 128 in flight, 1 worker, shm",
        lambda g: g("bytes-64-x128", "shm", "round_trips_per_s"),
        250_000,
        "/s",
        at_least=True,
    ),
    _t(
        "64 B, CPU per message, shm",
        lambda g: g("bytes-64-x128", "shm", "cpu_us"),
        6,
        "us",
        at_least=False,
    ),
    _t(
        "float32[1024], 128 in flight, shm",
        lambda g: g("array-4k-x128", "shm", "round_trips_per_s"),
        150_000,
        "/s",
        at_least=True,
    ),
    _t(
        "one entry read from a third process, shm",
        lambda g: g("look", "shm", "look_us"),
        1,
        "us",
        at_least=False,
    ),
    _t(
        "64 MiB round trip by views, copied in once, shm",
        lambda g: g("views-64m", "shm", "p50_ms"),
        17,
        "ms",
        at_least=False,
    ),
    _t(
        "64 MiB handed over, written in place, shm",
        lambda g: g("in-place-64m", "shm", "p50_ms"),
        0.2,
        "ms",
        at_least=False,
    ),
]


def judge(targets: list[Target], summary: Summary) -> list[dict[str, Any]]:
    """Compute each target from the medians; those whose figures were not measured are left out."""

    def figure(workload: str, contender: str, name: str) -> float:
        return summary[workload][contender][name]["median"]

    verdicts = []
    for target in targets:
        try:
            value = target.value(figure)
        except (KeyError, ZeroDivisionError):
            continue
        reached = value >= target.limit if target.at_least else value <= target.limit
        verdicts.append(
            {
                "text": target.text,
                "value": value,
                "limit": target.limit,
                "sign": ">=" if target.at_least else "<=",
                "unit": target.unit,
                "reached": reached,
            }
        )
    return verdicts
