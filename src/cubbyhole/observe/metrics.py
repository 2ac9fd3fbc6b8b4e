# SPDX-License-Identifier: Apache-2.0
"""What `/metrics` says, in Prometheus' words.

Nothing is counted here. Every number is read, at the scrape, from what all processes of a server share: the channel's counters and
entries, and the roster. So each front gives the same answer, and no number is lost with the process that raised it.

Flow:  routes.py -> **read** -> **families** -> exposition.py -> text, in the format that the scraper asks for
Owns:  nothing.
See:   docs/reference/metrics.md, core/statistics.py
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from cubbyhole.core.clock import now_ns
from cubbyhole.core.roster import ProcessState, Roster
from cubbyhole.observe.histograms import histogram_families

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from prometheus_client.metrics_core import Metric

    from cubbyhole.channels.base import Channel
    from cubbyhole.core.history import EndpointHistograms
    from cubbyhole.core.settings import ServerSettings
    from cubbyhole.core.statistics import ChannelStatistics, EntrySnapshot

NS = 1e-9
_RUNNING = frozenset(("CLAIMED", "STREAMING"))
_UNDER_WAY = frozenset(("WRITING", "READY", "CLAIMED", "STREAMING"))

# name without "cubbyhole_", help, field of ChannelStatistics
_COUNTERS = (
    ("requests_submitted", "Requests that fronts put into the channel.", "submitted_total"),
    ("requests_claimed", "Requests that workers took; once more after a retry.", "claimed_total"),
    ("entries_reclaimed", "Requests that processes held when they died.", "reclaimed_total"),
    ("retries", "Requests offered again after their worker's death.", "retried_total"),
    ("chunks", "Chunks of streamed answers.", "chunks_total"),
    ("rings", "System calls made to wake a sleeping process.", "rings_total"),
    ("request_bytes", "Bytes of request bodies.", "request_bytes_total"),
    ("result_bytes", "Bytes of answers.", "result_bytes_total"),
    ("copied_bytes", "Payload bytes that the channel copied.", "copied_bytes_total"),
)
_GAUGES = (
    ("slots", "Room for requests in flight, over all fronts.", "slots"),
    ("slots_used", "Slots that are taken.", "slots_used"),
    ("arena_bytes", "Room for payloads.", "arena_bytes"),
    ("arena_used_bytes", "Bytes of payloads in blocks that somebody holds.", "arena_used_bytes"),
    ("arena_blocks_used", "Blocks of the arena that somebody holds.", "blocks_used"),
)


class Reading(msgspec.Struct, frozen=True):
    """What a server's processes share, as read at one moment."""

    statistics: ChannelStatistics
    entries: Sequence[EntrySnapshot]
    roster: Roster
    settings: ServerSettings
    histograms: Sequence[EndpointHistograms]
    time_ns: int


def read(channel: Channel, roster: Roster, settings: ServerSettings) -> Reading:
    """Read what a server's processes share."""
    return Reading(
        channel.statistics(),
        channel.snapshot(),
        roster,
        settings,
        channel.histograms(),
        now_ns(),
    )


def families(reading: Reading) -> Iterator[Metric]:
    """Give one reading as metric families."""
    yield from _channel(reading.statistics)
    yield from _rejections(reading.roster)
    yield from _queues(reading)
    yield from _processes(reading)
    paths = [endpoint.path for endpoint in reading.settings.endpoints]
    yield from histogram_families(reading.histograms, paths)


def _channel(statistics: ChannelStatistics) -> Iterator[Metric]:
    outcomes = CounterMetricFamily(
        "cubbyhole_requests", "Requests that came to an end, by how.", labels=["outcome"]
    )
    outcomes.add_metric(["answered"], statistics.published_total)
    outcomes.add_metric(["failed"], statistics.failed_total)
    outcomes.add_metric(["cancelled"], statistics.cancelled_total)
    outcomes.add_metric(["expired"], statistics.expired_total)
    yield outcomes
    for name, text, field in _COUNTERS:
        yield CounterMetricFamily(f"cubbyhole_{name}", text, value=getattr(statistics, field))
    for name, text, field in _GAUGES:
        yield GaugeMetricFamily(f"cubbyhole_{name}", text, value=getattr(statistics, field))


def _rejections(roster: Roster) -> Iterator[Metric]:
    family = CounterMetricFamily(
        "cubbyhole_rejections", "Requests that fronts did not take, by why.", labels=["reason"]
    )
    for reason, count in roster.rejections().items():
        family.add_metric([reason], count)
    yield family


def _queues(reading: Reading) -> Iterator[Metric]:
    depth = GaugeMetricFamily(
        "cubbyhole_queue_depth", "Requests that wait for a worker.", labels=["endpoint"]
    )
    running = GaugeMetricFamily(
        "cubbyhole_in_flight", "Requests that a worker holds.", labels=["endpoint"]
    )
    oldest = GaugeMetricFamily(
        "cubbyhole_oldest_request_age_seconds",
        "Age of the oldest request without an answer; 0 without any.",
        labels=["endpoint"],
    )
    for number, endpoint in enumerate(reading.settings.endpoints):
        here = [entry for entry in reading.entries if entry.endpoint == number]
        waiting = sum(entry.state == "READY" for entry in here)
        begun = [entry.received_ns for entry in here if entry.state in _UNDER_WAY]
        depth.add_metric([endpoint.path], waiting)
        running.add_metric([endpoint.path], sum(entry.state in _RUNNING for entry in here))
        age_ns = max(0, reading.time_ns - min(begun)) if begun else 0
        oldest.add_metric([endpoint.path], age_ns * NS)
    yield from (depth, running, oldest)


def _processes(reading: Reading) -> Iterator[Metric]:
    roster, settings = reading.roster, reading.settings
    workers = GaugeMetricFamily(
        "cubbyhole_workers", "Workers by state.", labels=["endpoint", "state"]
    )
    counts: dict[tuple[str, str], int] = {}
    for endpoint in settings.endpoints:
        counts.update({(endpoint.path, state.name.lower()): 0 for state in ProcessState})
    restarts = CounterMetricFamily(
        "cubbyhole_restarts",
        "How often a process was started again.",
        labels=["role", "index"],
    )
    beat = GaugeMetricFamily(
        "cubbyhole_heartbeat_age_seconds",
        "Time since a process last showed progress; an idle worker beats, too.",
        labels=["role", "index"],
    )
    cells = [("front", index, index) for index in range(roster.fronts)]
    cells += [("worker", index, roster.worker_cell(index)) for index in range(roster.workers)]
    for role, index, cell in cells:
        restarts.add_metric([role, str(index)], roster.restarts(cell))
        last_ns = roster.last_beat_ns(cell)
        if last_ns:
            beat.add_metric([role, str(index)], max(0, reading.time_ns - last_ns) * NS)
        if role == "worker":
            path = settings.endpoints[settings.worker_place(index)[0]].path
            counts[path, roster.state(cell).name.lower()] += 1
    for (path, state), count in counts.items():
        workers.add_metric([path, state], count)
    yield from (workers, restarts, beat)
