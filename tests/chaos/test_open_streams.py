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


class Stream:
    """A stream on a connection of its own, whose front is known."""

    def __init__(self, url: str, body: dict[str, Any]) -> None:
        self._connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=20)
        self._connection.request("GET", "/front")
        self.front = json.load(self._connection.getresponse())
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
    with serving(f"{SERVERS}:{kind}", arguments=["--fronts", "2"]) as server:
        streams: list[Stream] = []
        markers = [tmp_path / f"{number}" for number in range(4)]
        for marker in markers:
            body = {"lines": LINES, "sleep_s": 0.05, "ended": str(marker)}
            streams.append(Stream(server.url, body))
        fronts = {stream.front for stream in streams}
        while len(fronts) == 1:  # the kernel chooses the front; with four connections mostly both
            streams.append(Stream(server.url, {"lines": 1}))
            fronts.add(streams[-1].front)
        victim = streams[0].front
        os.kill(victim, signal.SIGKILL)
        for stream in streams[:4]:
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
        for stream in streams:
            stream.close()
        after = Stream(server.url, {"lines": 3})
        assert after.rest() == b"0\n1\n2\n"
        after.close()
        output = server.output()
        assert server.stop() == 0
    assert f"pid={victim} reason=signal:SIGKILL" in output
    assert "worker replaced" not in output
