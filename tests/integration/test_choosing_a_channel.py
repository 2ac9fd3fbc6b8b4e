# SPDX-License-Identifier: Apache-2.0
"""Which channel carries the requests: the one that was asked for on the command line, or the fallback."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import httpx
import pytest

from cubbyhole.channels.registry import CHANNELS
from cubbyhole.testing.serving import Served, serving

if TYPE_CHECKING:
    from pathlib import Path

API = """
import cubbyhole as ls

class Square(ls.LitAPI):
    def decode_request(self, request):
        return request["input"]

    def predict(self, x):
        return x * x
"""
WITHOUT_CORE = """
import sys
for module in ("_segment", "_entries", "_index"):
    sys.modules["cubbyhole._native." + module] = None  # as if it had not been built
"""


@pytest.fixture
def target(tmp_path: Path) -> str:
    file = tmp_path / "squaring.py"
    file.write_text(API)
    return str(file)


def serves_over(server: Served, channel: str) -> None:
    assert httpx.post(server.url + "/predict", json={"input": 4}, timeout=30.0).json() == 16
    assert httpx.get(server.url + "/info").json()["server"]["channel"] == channel


@pytest.mark.parametrize("channel", CHANNELS)
def test_serve_carries_requests_over_the_channel_it_was_told(channel: str, target: str) -> None:
    if channel == "zmq":
        pytest.importorskip("zmq", reason="needs the extra: pip install '.[zmq]'")
    with serving(target, arguments=["--channel", channel], timeout_s=45.0) as server:
        serves_over(server, channel)


def test_without_the_native_core_it_serves_over_sockets_and_says_so_in_one_line(
    target: str, tmp_path: Path
) -> None:
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(WITHOUT_CORE)
    path = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    with serving(target, environment={"PYTHONPATH": path}, timeout_s=45.0) as server:
        serves_over(server, "sockets")
        told = [line for line in server.output().splitlines() if "native core" in line]
    assert len(told) == 1
    assert "WARNING" in told[0]
    assert "channel replaced: wanted=shm used=sockets" in told[0]
