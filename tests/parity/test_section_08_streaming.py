# SPDX-License-Identifier: Apache-2.0
"""Section 8: streams."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import requests
from parity_apis import BatchedStream, MixedStream, Stream

import cubbyhole as ls

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cubbyhole.testing.serving import Served

    Serve = Callable[[Callable[[], ls.LitServer]], Served]


def stream() -> ls.LitServer:
    return ls.LitServer(Stream(stream=True))


def mixed() -> ls.LitServer:
    return ls.LitServer(MixedStream(stream=True))


def batched() -> ls.LitServer:
    return ls.LitServer(BatchedStream(stream=True, max_batch_size=2, batch_timeout=0.2))


def test_dicts_are_json_lines_without_a_content_type(serve: Serve) -> None:
    answer = requests.post(f"{serve(stream).url}/predict", json={"count": 3}, timeout=10)
    assert answer.status_code == 200
    assert [json.loads(line) for line in answer.text.splitlines()] == [{"n": n} for n in range(3)]
    assert "content-type" not in answer.headers
    assert answer.headers["transfer-encoding"] == "chunked"


def test_chunks_go_out_as_litserve_formats_them(serve: Serve) -> None:
    answer = requests.post(f"{serve(mixed).url}/predict", json={}, timeout=10)
    assert answer.content == b'ab{"k": 1}\n{"x":1}\n'


def test_batched_streams_keep_apart(serve: Serve) -> None:
    from concurrent.futures import ThreadPoolExecutor

    url = f"{serve(batched).url}/predict"

    def post(name: str) -> str:
        return requests.post(url, json={"name": name}, timeout=10).text

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(post, "ab")) == ["a0 a1 a2 ", "b0 b1 b2 "]


def test_an_http_exception_before_the_first_chunk_is_the_answer(serve: Serve) -> None:
    """Defect 9: it was 200 with an empty body."""
    answer = requests.post(
        f"{serve(stream).url}/predict", json={"count": 3, "raise_at": 0}, timeout=10
    )
    assert (answer.status_code, answer.json()) == (418, {"detail": "before the first chunk"})


def test_a_stream_that_breaks_is_not_a_clean_end(serve: Serve) -> None:
    """Defect 9: it looked like a whole answer."""
    got: list[Any] = []
    answer = requests.post(
        f"{serve(stream).url}/predict", json={"count": 3, "raise_at": 2}, timeout=10, stream=True
    )
    assert answer.status_code == 200
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        got.extend(answer.iter_lines())
    assert got[:2] == [b'{"n": 0}', b'{"n": 1}']


def test_a_client_that_leaves_ends_its_stream(
    serve: Serve, tmp_path: Path, wait_until: Callable[..., Any]
) -> None:
    """Defect 7: all 40 of 40 steps ran."""
    seen = tmp_path / "step"
    body = {"count": 400, "sleep_s": 0.01, "file": str(seen)}
    url = f"{serve(stream).url}/predict"
    answer = requests.post(url, json=body, timeout=10, stream=True)
    next(answer.iter_lines())
    answer.close()
    assert requests.post(url, json={"count": 1}, timeout=10).status_code == 200
    assert int(seen.read_text()) < 399


def test_a_body_over_the_limit_is_413_on_a_stream_too(serve: Serve) -> None:
    """Defect 14: it was 500."""

    def limited() -> ls.LitServer:
        return ls.LitServer(Stream(stream=True), max_payload_size="1KB")

    answer = requests.post(f"{serve(limited).url}/predict", data=b"x" * 2000, timeout=10)
    assert answer.status_code == 413
