# SPDX-License-Identifier: Apache-2.0
"""Section 14: loggers on a running server. The process itself is tested in tests/unit/test_loggers.py."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest
import requests
from parity_apis import Logs, LogsToFile, Square

import cubbyhole as ls
from cubbyhole.testing.serving import serving

if TYPE_CHECKING:
    from pathlib import Path


async def metrics(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"metrics"})


def test_values_reach_all_loggers_in_one_other_process(tmp_path: Path) -> None:
    paths = [tmp_path / "one", tmp_path / "two"]
    first = LogsToFile(str(paths[0]))
    first.mount("/metrics", metrics)
    server = ls.LitServer(Logs(), loggers=[first, LogsToFile(str(paths[1]))])
    with serving(server) as served:
        for number in range(3):
            requests.post(f"{served.url}/predict", json={"input": number}, timeout=10)
        assert requests.get(f"{served.url}/metrics/", timeout=10).text == "metrics"
    rows = [[json.loads(line) for line in path.read_text().splitlines()] for path in paths]
    assert [row[:2] for row in rows[0]] == [["input", 0], ["input", 1], ["input", 2]]
    assert rows[0] == rows[1]
    assert rows[0][0][2] != os.getpid()


def test_logging_without_a_logger_warns() -> None:
    with pytest.warns(UserWarning, match=r"Logging event \('k', 'v'\) attempted without a config"):
        assert Square().log("k", "v") is None
