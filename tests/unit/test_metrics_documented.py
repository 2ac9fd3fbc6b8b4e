# SPDX-License-Identifier: Apache-2.0
"""Every metric is in the reference, and nothing else is."""

from __future__ import annotations

import re
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from cubbyhole.core.roster import Roster
from cubbyhole.core.settings import EndpointSettings, ServerSettings
from cubbyhole.core.statistics import ChannelStatistics, EntrySnapshot
from cubbyhole.observe.metrics import exposition

REFERENCE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "metrics.md"


def families(*entries: EntrySnapshot) -> dict[str, dict[tuple[str, ...], float]]:
    roster = Roster.create(1, 1)
    roster.beat(0, 1)
    settings = ServerSettings(endpoints=(EndpointSettings(path="/a"),))
    statistics = ChannelStatistics(kind="shm", published_total=3, expired_total=2)
    text = exposition(statistics, entries, roster, settings).decode()
    roster.close()
    return {
        sample.name: {
            tuple(other.labels.values()): other.value
            for other in family.samples
            if other.name == sample.name
        }
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


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
