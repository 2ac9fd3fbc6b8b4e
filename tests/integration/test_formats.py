# SPDX-License-Identifier: Apache-2.0
"""Formats other than JSON over real HTTP, workers in processes of their own."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import requests
from format_apis import AnyBody, Arrays, InPlace, InPlaceRaw, Negotiated, OneArray

import cubbyhole as ls
from cubbyhole.formats.media import media_type
from cubbyhole.formats.reading import BodyReader
from cubbyhole.formats.writing import write_body
from cubbyhole.testing.serving import serving

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cubbyhole.testing.serving import Served

X = np.arange(100_000, dtype=np.float32).reshape(2, -1)


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    apis = [
        OneArray(api_path="/array"),
        Arrays(api_path="/arrays"),
        Negotiated(api_path="/negotiated"),
        Negotiated(api_path="/batched", max_batch_size=4, batch_timeout=0.01),
        AnyBody(api_path="/any"),
        InPlace(api_path="/in-place"),
        InPlaceRaw(api_path="/in-place-raw"),
    ]
    with serving(ls.LitServer(apis)) as server:
        yield server


def post(served: Served, path: str, name: str, value: Any, **headers: str) -> requests.Response:
    data = write_body(name, value).whole()
    types = {"Content-Type": media_type(name), **headers}
    return requests.post(served.url + path, data=data, headers=types, timeout=20)


def test_an_array_in_and_out(served: Served) -> None:
    answer = post(served, "/array", "npy", X)
    assert answer.headers["content-type"] == "application/x-npy"
    np.testing.assert_array_equal(np.load(io.BytesIO(answer.content)), X * 2)


@pytest.mark.parametrize("name", ["safetensors", "msgpack"])
def test_arrays_by_name_in_and_out(served: Served, name: str) -> None:
    answer = post(served, "/arrays", name, {"a": X, "b": X[:, :3]}, Accept=media_type(name))
    assert answer.status_code == 200
    assert answer.headers["content-type"] == media_type(name)
    found = BodyReader("arrays", (name,)).read(answer.content, media_type(name))
    np.testing.assert_array_equal(found["sum"], X.sum(1) + X[:, :3].sum(1))


@pytest.mark.parametrize("path", ["/negotiated", "/batched"])
def test_the_client_chooses_among_what_the_api_allows(served: Served, path: str) -> None:
    plain = requests.post(served.url + path, json=[1, 2], timeout=20)
    assert plain.json() == [2, 4]
    assert plain.headers["content-type"] == "application/json"
    assert plain.headers["vary"] == "Accept"
    accept = {"Accept": "application/x-npy"}
    array = requests.post(served.url + path, json=[1, 2], headers=accept, timeout=20)
    np.testing.assert_array_equal(np.load(io.BytesIO(array.content)), [2, 4])
    refused = requests.post(
        served.url + path, json=[1, 2], headers={"Accept": "text/html"}, timeout=20
    )
    assert refused.status_code == 406
    assert refused.json()["detail"].endswith("application/json, application/x-npy.")


def test_a_header_never_decides_what_is_decoded(served: Served) -> None:
    for path, name in (("/array", "msgpack"), ("/negotiated", "npy"), ("/any", "safetensors")):
        value = {"x": X[:, :3]} if name == "safetensors" else X[:, :3]
        assert post(served, path, name, value).status_code in {400, 415}
    pickled = {"Content-Type": "application/x-pickle"}
    answer = requests.post(served.url + "/any", data=b"\x80\x04N.", headers=pickled, timeout=20)
    assert answer.status_code == 415


def test_without_annotation_each_allowed_format_gives_what_it_holds(served: Served) -> None:
    assert requests.post(served.url + "/any", json={"a": 1}, timeout=20).json() == "dict"
    assert post(served, "/any", "msgpack", [1]).json() == "list"
    assert post(served, "/any", "npy", X).json() == "ndarray"
    assert post(served, "/any", "raw", b"abc").json() == "memoryview"


def copied_bytes(served: Served) -> float:
    text = requests.get(served.url + "/metrics", timeout=20).text
    line = next(one for one in text.splitlines() if one.startswith("cubbyhole_copied_bytes_total"))
    return float(line.split()[-1])


def test_what_is_written_in_place_is_not_copied_by_the_channel(served: Served) -> None:
    before = copied_bytes(served)
    answer = post(served, "/in-place", "npy", X)
    np.testing.assert_array_equal(np.load(io.BytesIO(answer.content)), X * 2)
    raw = requests.post(served.url + "/in-place-raw", data=X.tobytes(), timeout=20)
    np.testing.assert_array_equal(np.frombuffer(raw.content, np.float32), X.ravel() * 2)
    assert copied_bytes(served) - before < X.nbytes / 10
    small = post(served, "/in-place", "npy", X[:, :3])
    np.testing.assert_array_equal(np.load(io.BytesIO(small.content)), X[:, :3] * 2)
