# SPDX-License-Identifier: Apache-2.0
"""Each request has one line in the access log, whichever way its lane answers it."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING

import httpx
import pytest
from tests.unit.front.house import House, StreamAPI
from tests.unit.front.test_lanes import LANES, answer_as_asked, lines, server_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

LINE = re.compile(r"method=(\S+) path=(\S+) status=(\d+) duration_ms=(\S+) bytes=(\d+) client=127")


@pytest.fixture(autouse=True)
def _heard(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """As where a user configures logging: records of the access log reach the root."""
    caplog.set_level(logging.INFO, "cubbyhole.access")
    logging.getLogger("cubbyhole.access").addHandler(caplog.handler)
    yield
    logging.getLogger("cubbyhole.access").removeHandler(caplog.handler)


def told(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str, int, int]]:
    """Method, path, status and bytes of each line; a record may have come to the handler twice."""
    records = {id(record): record.getMessage() for record in caplog.records}
    found = [LINE.search(text) for text in records.values()]
    assert all(float(one[4]) > 0 for one in found if one)
    return [(one[1], one[2], int(one[3]), int(one[5])) for one in found if one]


@pytest.mark.parametrize("limits", [{}, {"max_queue_per_key": 9}, {"fair_shares": True}])
@pytest.mark.parametrize("lane", LANES)
def test_every_answer_has_one_line(
    lane: str, limits: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    server = server_for(lane, max_payload_size=100_000, **limits)
    bodies = (b'{"a":1}', b'{"size":90000}', b'{"fail":418,"detail":"tea"}', b"1" * 200_000)
    with (
        House(server, answer_as_asked) as house,
        house.over_http(access_log=True) as url,
        httpx.Client(base_url=url, headers={"accept-encoding": "identity"}) as client,
    ):
        sizes = [len(client.post("/predict", content=body).content) for body in bodies]
        sizes.append(len(client.get("/nowhere").content))
    statuses = [200, 200, 418, 413, 404]
    paths = ["/predict"] * 4 + ["/nowhere"]
    methods = ["POST"] * 4 + ["GET"]
    # Sorted: the 413 lingers, and ends after what was asked next.
    assert sorted(told(caplog)) == sorted(zip(methods, paths, statuses, sizes, strict=True))


@pytest.mark.parametrize("lane", LANES)
def test_a_stream_has_one_line_with_all_its_bytes(
    lane: str, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        House(server_for(lane, StreamAPI(stream=True)), lines) as house,
        house.over_http(access_log=True) as url,
    ):
        size = len(httpx.post(f"{url}/predict", json=1).content)
    assert told(caplog) == [("POST", "/predict", 200, size)]
