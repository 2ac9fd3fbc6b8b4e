# SPDX-License-Identifier: Apache-2.0
"""Every metric is in the reference, and nothing else is."""

from __future__ import annotations

import re
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from cubbyhole.core.clock import now_ns
from cubbyhole.core.history import OUTCOMES, EndpointHistograms, Histogram
from cubbyhole.core.rejections import REASONS, WORDS, reason_number
from cubbyhole.core.roster import Roster
from cubbyhole.core.settings import EndpointSettings, ServerSettings
from cubbyhole.core.statistics import ChannelStatistics, EntrySnapshot
from cubbyhole.observe.exposition import Exposition
from cubbyhole.observe.histograms import HISTOGRAM_ROWS
from cubbyhole.observe.metrics import Reading
from cubbyhole.observe.metrics import families as metric_families

REFERENCE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "metrics.md"


def a_histogram(*bounds: float) -> Histogram:
    return Histogram(bounds, (0,) * (len(bounds) + 1), 0)


HISTOGRAMS = EndpointHistograms(
    endpoint=0,
    outcomes=dict.fromkeys(OUTCOMES, 0),
    **{field: a_histogram(*bounds) for _, _, field, bounds in HISTOGRAM_ROWS},
)


def families(*entries: EntrySnapshot) -> dict[str, dict[tuple[str, ...], float]]:
    """The values of each sample, by its labels; of a histogram its count, by the histogram's name."""
    roster = Roster.create(1, 1)
    roster.count_rejection(0, reason_number("queue_full"))
    roster.beat(0, 1)
    settings = ServerSettings(endpoints=(EndpointSettings(path="/a"),))
    statistics = ChannelStatistics(kind="shm", published_total=3, expired_total=2)
    reading = Reading(statistics, entries, roster, settings, [HISTOGRAMS], now_ns())
    text, _ = Exposition().text(list(metric_families(reading)), "")
    roster.close()
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            if family.type != "histogram":
                found.setdefault(sample.name, {})[tuple(sample.labels.values())] = sample.value
            elif sample.name.endswith("_count"):
                found.setdefault(family.name, {})[tuple(sample.labels.values())] = sample.value
    return found


def test_the_reference_names_every_metric_and_no_other() -> None:
    named = set(re.findall(r"`(cubbyhole_\w+)`", REFERENCE.read_text()))
    assert named == set(families())


def test_outcomes_and_queues_are_told_apart() -> None:
    waiting = EntrySnapshot(id=1, endpoint=0, state="READY", front=0, received_ns=1)
    running = EntrySnapshot(id=2, endpoint=0, state="CLAIMED", front=0, received_ns=2)
    found = families(waiting, waiting, running)
    assert found["cubbyhole_requests_total"]["answered",] == 3
    assert found["cubbyhole_requests_total"]["expired",] == 2
    assert found["cubbyhole_queue_depth"]["/a",] == 2
    assert found["cubbyhole_in_flight"]["/a",] == 1
    assert found["cubbyhole_oldest_request_age_seconds"]["/a",] > 0


def test_rejections_are_told_by_reason() -> None:
    found = families()["cubbyhole_rejections_total"]
    assert found["queue_full",] == 1
    assert sum(found.values()) == 1


def test_every_reason_is_in_the_reference_and_has_a_word() -> None:
    text = REFERENCE.read_text()
    assert [reason for reason in REASONS if reason not in text] == []
    assert len(REASONS) <= WORDS


def test_a_bucket_of_the_metrics_is_a_sum_of_the_segments_buckets() -> None:
    fine = Histogram((0.00005, 0.0001, 0.0002, 0.00025, 200.0), (1, 2, 3, 4, 5, 6), 9.0)
    assert fine.cumulative((0.00005, 0.0001, 0.00025)) == [1, 3, 10]
    assert fine.count == 21
