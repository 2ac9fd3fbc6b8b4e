# SPDX-License-Identifier: Apache-2.0
"""Fronts die with open streams: their clients can tell, the others' go on, and nothing of the dead one's stays."""

from __future__ import annotations

import http.client
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.chaos.test_mixed import held

from cubbyhole.testing.serving import serving

SERVERS = Path(__file__).with_name("chaos_servers.py")
WaitUntil = Callable[..., object]
LINES = 60
WITHOUT_END = 10**9


class Stream:
    """A connection whose front is known, and a stream on it once it has begun."""

    def __init__(self, url: str) -> None:
        self._connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=20)
        self._connection.request("GET", "/front")
        self.front = json.load(self._connection.getresponse())

    def begin(self, body: dict[str, Any]) -> None:
        """Ask, and wait for the first line."""
        self._connection.request("POST", "/predict", json.dumps(body), {"content-type": "a/json"})
        self.answer = self._connection.getresponse()
        self.first = self.answer.readline()

    def rest(self) -> bytes:
        """Read to the end; raises if that is no clean one."""
        return self.first + self.answer.read()

    def close(self) -> None:
        """Leave."""
        self._connection.close()


@pytest.mark.parametrize("kind", ["streams", "streams_async"])
def test_a_killed_fronts_streams_break_off_and_the_other_fronts_go_on(
    kind: str, tmp_path: Path, wait_until: WaitUntil
) -> None:
    """Those of the dead one have no end, so their generators end by being closed."""
    with serving(f"{SERVERS}:{kind}", arguments=["--fronts", "2"]) as server:
        connections = [Stream(server.url) for _ in range(4)]
        while len({one.front for one in connections}) == 1:  # the kernel chooses the front
            connections.append(Stream(server.url))
        streams = [connections[0], *connections[-3:]]  # both fronts, and no more than workers
        victim = streams[0].front
        markers = [tmp_path / f"{number}" for number in range(4)]
        for stream, marker in zip(streams, markers, strict=True):
            lines = WITHOUT_END if stream.front == victim else LINES
            stream.begin({"lines": lines, "sleep_s": 0.05, "ended": str(marker)})
        os.kill(victim, signal.SIGKILL)
        for stream in streams:
            if stream.front == victim:
                with pytest.raises((http.client.IncompleteRead, ConnectionError)):
                    stream.rest()
            else:
                assert stream.rest() == b"".join(b"%d\n" % n for n in range(LINES))
        wait_until(lambda: all(marker.exists() for marker in markers))

        def nothing_held() -> bool:
            try:
                now = held(server.url)
            except httpx.HTTPError:
                return False
            return now["slots"] == 0 and now["blocks"] == 0

        wait_until(nothing_held)
        for connection in connections:
            connection.close()
        after = Stream(server.url)
        after.begin({"lines": 3})
        assert after.rest() == b"0\n1\n2\n"
        after.close()
        output = server.output()
        assert server.stop() == 0
    assert f"pid={victim} reason=signal:SIGKILL" in output
    assert "worker replaced" not in output
