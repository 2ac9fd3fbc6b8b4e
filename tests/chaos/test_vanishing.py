# SPDX-License-Identifier: Apache-2.0
"""Clients vanish at each byte of a request, and at each byte of a streamed answer: nothing stays, nobody else notices."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from tests.chaos.test_mixed import connected, held, vanish, wait_for_nothing_held

from cubbyhole.testing.serving import serving

if TYPE_CHECKING:
    import socket

SERVERS = Path(__file__).with_name("chaos_servers.py")
WaitUntil = Callable[..., object]
WAYS = ["closed", "reset"]
END = b"\r\n0\r\n\r\n"


def request_bytes(body: object) -> bytes:
    content = json.dumps(body).encode()
    head = b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(content)
    return head + content


def read_bytes(connection: socket.socket, size: int) -> None:
    """Read as many, or to the end of the answer: the fewer chunks its lines came in, the shorter it is."""
    got = b""
    while len(got) < size and not got.endswith(END):
        part = connection.recv(size - len(got))
        assert part, f"the server ended the connection after {got!r}"
        got += part


def leave(connection: socket.socket, way: str) -> None:
    if way == "reset":
        vanish(connection)
    else:
        connection.close()


@pytest.mark.parametrize("way", WAYS)
def test_a_client_may_vanish_after_each_byte_of_its_request(
    way: str, wait_until: WaitUntil
) -> None:
    request = request_bytes({"value": 1})
    with serving(f"{SERVERS}:faulty", arguments=["--fronts", "1"]) as server:
        pid = httpx.post(server.url + "/predict", json={"value": 0}).json()["pid"]
        before = held(server.url)
        for size in range(len(request) + 1):
            with connected(server.url) as connection:
                connection.sendall(request[:size])
                leave(connection, way)
        wait_for_nothing_held(server.url, before, wait_until)
        after = httpx.post(server.url + "/predict", json={"value": 2})
        output = server.output()
    assert after.json() == {"value": 2, "pid": pid}
    assert "Traceback" not in output
    assert "replaced" not in output


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ["streams", "streams_async"])
def test_a_client_may_vanish_after_each_byte_of_a_streamed_answer(
    kind: str, way: str, tmp_path: Path, wait_until: WaitUntil
) -> None:
    ended = tmp_path / "ended"
    request = request_bytes({"lines": 9, "sleep_s": 0.001})
    with serving(f"{SERVERS}:{kind}", arguments=["--fronts", "1"]) as server:
        before = held(server.url)
        with connected(server.url) as connection:
            connection.sendall(request)
            whole = b""
            while not whole.endswith(END):
                whole += connection.recv(65536)
        assert 100 < len(whole) < 400
        for size in range(1, len(whole) + 1):
            with connected(server.url) as connection:
                connection.sendall(request)
                read_bytes(connection, size)
                leave(connection, way)
        wait_for_nothing_held(server.url, before, wait_until)
        with connected(server.url) as connection:
            connection.sendall(request_bytes({"lines": 10**6, "ended": str(ended)}))
            connection.recv(200)
            leave(connection, way)
        wait_until(ended.exists)  # the generator was closed long before its end
        wait_for_nothing_held(server.url, before, wait_until)
        assert httpx.post(server.url + "/predict", json={"lines": 2}).text == "0\n1\n"
        output = server.output()
    assert "Traceback" not in output
    assert "replaced" not in output
