# SPDX-License-Identifier: Apache-2.0
"""`Client` and `AsyncClient` against a real server: arrays, streams, retries, errors, progress."""

from __future__ import annotations

import asyncio
import socket
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from client_apis import Counting, Echo, FailingLater
from format_apis import Arrays, Negotiated, OneArray

import cubbyhole as ls
from cubbyhole.core.errors import AnswerError, ClientError, ServerUnreachable, StreamCut
from cubbyhole.testing.serving import serving

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cubbyhole.testing.serving import Served

X = np.arange(300_000, dtype=np.float32).reshape(3, -1)


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    apis = [
        Echo(api_path="/predict"),
        OneArray(api_path="/array"),
        Arrays(api_path="/arrays"),
        Negotiated(api_path="/negotiated"),
        Counting(api_path="/count", stream=True),
        FailingLater(api_path="/fails", stream=True),
    ]
    with serving(ls.LitServer(apis, cancel_by_id=True)) as server:
        yield server


@pytest.fixture
def client(served: Served) -> Iterator[ls.Client]:
    with ls.Client(served.url) as made:
        yield made


def test_plain_data_goes_as_json(client: ls.Client) -> None:
    assert client.predict({"a": [1, None, "x"]}) == {"a": [1, None, "x"]}
    assert client.predict() is None
    assert client.healthy()


def test_an_array_goes_and_comes_as_an_array(client: ls.Client) -> None:
    answer = client.predict(X, "/array")
    np.testing.assert_array_equal(answer, X * 2)
    assert not answer.flags.writeable


def test_arrays_by_name_and_the_form_that_the_caller_wants(client: ls.Client) -> None:
    sent = {"a": X[:2], "b": X[:2, :5]}
    np.testing.assert_array_equal(
        client.predict(sent, "/arrays")["sum"], X[:2].sum(1) + X[:2, :5].sum(1)
    )
    packed = client.predict(sent, "/arrays", accept="application/msgpack")
    np.testing.assert_array_equal(packed["sum"], X[:2].sum(1) + X[:2, :5].sum(1))
    assert client.predict([1, 2], "/negotiated") == [2, 4]


def test_progress_is_told_up_to_the_end(client: ls.Client) -> None:
    told: list[tuple[int, int]] = []
    client.predict(X, "/array", progress=lambda sent, size: told.append((sent, size)))
    sizes = [sent for sent, _ in told]
    assert sizes == sorted(sizes)
    assert len(sizes) > 3
    assert told[-1][0] == told[-1][1] > X.nbytes


def test_a_stream_comes_as_it_is_made(client: ls.Client) -> None:
    assert list(client.lines(4, "/count")) == [f'{{"number": {n}}}' for n in range(4)]


def test_a_stream_that_breaks_is_not_taken_for_whole(client: ls.Client) -> None:
    got: list[bytes] = []
    with pytest.raises(StreamCut):
        got.extend(client.stream(3, "/fails"))
    assert b"".join(got).startswith(b'{"number": 0}')


def test_an_error_tells_status_detail_and_id(client: ls.Client) -> None:
    with pytest.raises(AnswerError) as caught:
        client.predict({"fail": 422}, request_id="order-17")
    assert caught.value.status_code == 422
    assert caught.value.detail == "as you wish"
    assert caught.value.request_id == "order-17"
    assert caught.value.attempts == 1


def test_what_cannot_be_sent_is_said_before_anything_is(client: ls.Client) -> None:
    with pytest.raises(ClientError, match="cannot be sent"):
        client.predict(object())


async def test_the_same_on_an_event_loop(served: Served) -> None:
    async with ls.AsyncClient(served.url) as client:
        answers = await asyncio.gather(*(client.predict({"n": n}) for n in range(8)))
        assert answers == [{"n": n} for n in range(8)]
        np.testing.assert_array_equal(await client.predict(X, "/array"), X * 2)
        assert [line async for line in client.lines(2, "/count")] == [
            '{"number": 0}',
            '{"number": 1}',
        ]
        assert await client.healthy()
        with pytest.raises(AnswerError, match="422"):
            await client.predict({"fail": 422})


def test_a_server_that_is_not_there_is_said_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with (
        ls.Client(f"http://127.0.0.1:{port}", retries=1) as client,
        pytest.raises(ServerUnreachable, match="last of 2 attempts"),
    ):
        client.predict(1)
    assert not ls.Client(f"http://127.0.0.1:{port}").healthy()


class Scripted(BaseHTTPRequestHandler):
    """Answers with the next status of a list; 0: closes the connection without a word."""

    script: list[int]
    seen: list[tuple[str, bytes]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.seen.append((self.headers["X-Request-ID"], body))
        status = self.script.pop(0)
        if status == 0:
            self.close_connection = True
            return
        content = b'{"detail": "full"}' if status != 200 else b'"done"'
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        if status != 200:
            self.send_header("Retry-After", "0")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Be quiet."""


@contextmanager
def scripted(*statuses: int) -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    seen: list[tuple[str, bytes]] = []
    kind = type("Once", (Scripted,), {"script": list(statuses), "seen": seen})
    with ThreadingHTTPServer(("127.0.0.1", 0), kind) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", seen
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("statuses", [(503, 200), (429, 503, 200), (0, 200), (0, 503, 200)])
def test_refusals_and_breaks_are_tried_again_as_the_same_request(statuses: tuple[int, ...]) -> None:
    with scripted(*statuses) as (url, seen), ls.Client(url) as client:
        assert client.predict(np.arange(3)) == "done"
        assert len(seen) == len(statuses)
        assert len(set(seen)) == 1


@pytest.mark.parametrize("statuses", [(503, 200), (0, 200)])
def test_what_may_have_run_is_not_sent_again_where_that_does_harm(
    statuses: tuple[int, ...],
) -> None:
    with scripted(*statuses) as (url, seen), ls.Client(url, idempotent=False) as client:
        with pytest.raises((AnswerError, ServerUnreachable)):
            client.predict(1)
        assert len(seen) == 1


def test_an_error_of_the_request_itself_is_not_tried_again() -> None:
    with scripted(400, 200) as (url, seen), ls.Client(url) as client:
        with pytest.raises(AnswerError, match="400: full"):
            client.predict(1)
        assert len(seen) == 1


async def test_retries_on_an_event_loop() -> None:
    with scripted(503, 0, 200) as (url, seen):
        async with ls.AsyncClient(url) as client:
            assert await client.predict(1) == "done"
        assert len(seen) == 3
