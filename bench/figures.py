# SPDX-License-Identifier: Apache-2.0
"""From what a run counted to its figures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bench.job import CHUNKS
from bench.processes import describe
from cubbyhole.measuring.tables import percentile

if TYPE_CHECKING:
    from bench.job import Job, Tally


def summary(
    job: Job,
    tally: Tally,
    took_s: float,
    own_s: float,
    before: dict[int, float],
    after: dict[int, float],
    pss: float,
    rss: float,
) -> dict[str, Any]:
    count = len(tally.latencies_ns)
    latencies, first = sorted(tally.latencies_ns), sorted(tally.first_ns)
    used = {pid: after[pid] - before.get(pid, 0.0) for pid in after}
    result = {
        "requests": count,
        "failures": tally.failures,
        "example": tally.example,
        "seconds": took_s,
        "requests_per_s": count / took_s,
        "p50_ms": percentile(latencies, 0.5) / 1e6,
        "p99_ms": percentile(latencies, 0.99) / 1e6,
        "max_ms": percentile(latencies, 1.0) / 1e6,
        "server_cpu_ms": 1000 * sum(used.values()) / max(count, 1),
        "server_cores": sum(used.values()) / took_s,
        "client_cpu_ms": 1000 * own_s / max(count, 1),
        "client_cores": own_s / took_s,
        "pss_mib": pss,
        "rss_mib": rss,
        "processes": len(after),
        "cpu_by_process_ms": {
            f"{n}: {describe(pid)}": 1000 * spent / max(count, 1)
            for n, (pid, spent) in enumerate(sorted(used.items()))
        },
    }
    if job.kind == "stream":
        result |= {
            "chunks_per_s": CHUNKS * count / took_s,
            "first_chunk_p50_ms": percentile(first, 0.5) / 1e6,
            "first_chunk_p99_ms": percentile(first, 0.99) / 1e6,
            "reads_per_answer": tally.reads / max(count, 1),
        }
    if job.kind == "raw":
        result["mib_per_s"] = 2 * job.size_bytes * count / took_s / 2**20
    return result
