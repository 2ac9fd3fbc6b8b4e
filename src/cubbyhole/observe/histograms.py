# SPDX-License-Identifier: Apache-2.0
"""The histograms of `/metrics`: how long requests were in each phase, and how large they were.

The segment has finer buckets than anybody wants to store for each server: here is every third of them. All of a server's buckets are
fixed, so that histograms of several servers can be added.

Flow:  Channel.histograms -> **histogram_families** -> metrics.py
Owns:  nothing.
See:   docs/reference/metrics.md
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from prometheus_client.metrics_core import Metric

    from cubbyhole.core.history import EndpointHistograms

# Three to a decade: 50 us to 100 s.
TIME_BOUNDS_S = (
    *(5e-05, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0),
)
SIZE_BOUNDS = tuple(float(64 << 2 * step) for step in range(13))  # 64 B, 256 B, ... 1 GiB
BATCH_BOUNDS = tuple(float(1 << step) for step in range(11))  # 1, 2, 4, ... 1024

# name without "cubbyhole_", help, field of EndpointHistograms, bounds
HISTOGRAM_ROWS = (
    ("intake_seconds", "Time until a request's body was in the channel.", "intake", TIME_BOUNDS_S),
    ("queue_seconds", "Time that requests waited for a worker.", "queue", TIME_BOUNDS_S),
    (
        "execute_seconds",
        "Time from a worker's claim to its outcome, with decoding, batching, encoding.",
        "execute",
        TIME_BOUNDS_S,
    ),
    (
        "collect_seconds",
        "Time from the outcome until its front took it.",
        "collect",
        TIME_BOUNDS_S,
    ),
    (
        "first_chunk_seconds",
        "Time from a streamed request's arrival to its first chunk.",
        "first_chunk",
        TIME_BOUNDS_S,
    ),
    (
        "request_seconds",
        "Time from a request's arrival to its end; not of cancelled ones.",
        "request",
        TIME_BOUNDS_S,
    ),
    (
        "batch_wait_seconds",
        "Time that a batch's first request waited for the others; a part of execute.",
        "batch_wait",
        TIME_BOUNDS_S,
    ),
    ("batch_size", "Requests in a batch.", "batch_size", BATCH_BOUNDS),
    ("request_size_bytes", "Size of request bodies.", "request_bytes", SIZE_BOUNDS),
    (
        "result_size_bytes",
        "Size of answers; of a stream all its chunks.",
        "result_bytes",
        SIZE_BOUNDS,
    ),
)


def histogram_families(
    histograms: Sequence[EndpointHistograms], paths: Sequence[str]
) -> Iterator[Metric]:
    """Return them as metric families, and the outcomes of each endpoint; nothing of a channel that keeps none.

    Args:
        histograms: Of each endpoint.
        paths: Of the endpoints, by their numbers.
    """
    if not histograms:
        return
    outcomes = CounterMetricFamily(
        "cubbyhole_outcomes",
        "Requests that a front was done with, by how they ended.",
        labels=["endpoint", "outcome"],
    )
    for one in histograms:
        for outcome, count in one.outcomes.items():
            outcomes.add_metric([paths[one.endpoint], outcome], count)
    yield outcomes
    for name, text, field, bounds in HISTOGRAM_ROWS:
        family = HistogramMetricFamily(f"cubbyhole_{name}", text, labels=["endpoint"])
        for one in histograms:
            histogram = getattr(one, field)
            buckets = [
                (str(bound), float(count))
                for bound, count in zip(bounds, histogram.cumulative(bounds), strict=True)
            ]
            buckets.append(("+Inf", float(histogram.count)))
            family.add_metric([paths[one.endpoint]], buckets, histogram.total)
        yield family
