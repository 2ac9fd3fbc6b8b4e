# SPDX-License-Identifier: Apache-2.0
"""Section 5: endpoints and status codes, over real HTTP."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import requests
from parity_apis import Anything, ShortBatch, Square, Typed

import cubbyhole as ls

if TYPE_CHECKING:
    from collections.abc import Callable

    from cubbyhole.testing.serving import Served

    Serve = Callable[[Callable[[], ls.LitServer]], Served]


def square() -> ls.LitServer:
    return ls.LitServer(Square(), accelerator="cpu", model_metadata={"name": "square"})


def anything() -> ls.LitServer:
    return ls.LitServer(Anything(), accelerator="cpu", max_payload_size=1000)


def impatient() -> ls.LitServer:
    return ls.LitServer(Anything(), accelerator="cpu", timeout=0.5)


def short_batch() -> ls.LitServer:
    return ls.LitServer(ShortBatch(max_batch_size=4), accelerator="cpu")


def typed() -> ls.LitServer:
    return ls.LitServer(Typed(), accelerator="cpu", disable_openapi_url=True)


def test_a_prediction_is_the_json_of_encode_response(serve: Serve) -> None:
    answer = requests.post(f"{serve(square).url}/predict", json={"input": 4.0}, timeout=10)
    assert answer.status_code == 200
    assert answer.json() == {"output": 16.0}
    assert answer.headers["content-type"] == "application/json"


def test_curl_is_answered_too(serve: Serve) -> None:
    command = ["curl", "-s", "-X", "POST", f"{serve(square).url}/predict"]
    command += ["-H", "Content-Type: application/json", "-d", '{"input": 4.0}']
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == '{"output":16.0}'


def test_the_index_says_litserves_words(serve: Serve) -> None:
    answer = requests.get(serve(square).url, timeout=10)
    assert (answer.status_code, answer.text) == (200, "litserve running")
    assert "content-type" not in answer.headers


def test_health_is_ok_in_plain_words(serve: Serve) -> None:
    answer = requests.get(f"{serve(square).url}/health", timeout=10)
    assert (answer.status_code, answer.text) == (200, "ok")


def test_info_has_litserves_shape(serve: Serve) -> None:
    info = requests.get(f"{serve(square).url}/info", timeout=10).json()
    assert info["model"] == {"name": "square"}
    server = info["server"]
    expected = {
        "devices": ["cpu"],
        "workers_per_device": 1,
        "timeout": 30,
        "stream": {"/predict": False},
        "max_payload_size": None,
        "track_requests": False,
    }
    assert {key: server[key] for key in expected} == expected


def test_a_plain_route_takes_the_fast_lane(serve: Serve) -> None:
    """Ours: `/info` also says which lane each route takes, and which channel carries it."""
    server = requests.get(f"{serve(square).url}/info", timeout=10).json()["server"]
    assert server["lanes"] == {"/predict": "fast"}
    assert server["channel"] in {"shm", "sockets"}


def test_unknown_paths_and_methods_are_fastapis(serve: Serve) -> None:
    url = serve(square).url
    answer = requests.post(f"{url}/nothing", timeout=10)
    assert (answer.status_code, answer.json()) == (404, {"detail": "Not Found"})
    answer = requests.get(f"{url}/predict", timeout=10)
    assert (answer.status_code, answer.json()) == (405, {"detail": "Method Not Allowed"})


def test_the_documents_are_there_unless_disabled(serve: Serve) -> None:
    shown, hidden = serve(square).url, serve(typed).url
    for path in ("/docs", "/redoc", "/openapi.json"):
        assert requests.get(shown + path, timeout=10).status_code == 200
        assert requests.get(hidden + path, timeout=10).status_code == 404
    document = requests.get(f"{shown}/openapi.json", timeout=10).json()
    assert document["info"] == {"title": "FastAPI", "version": "0.1.0"}
    assert "post" in document["paths"]["/predict"]


def test_an_http_exception_is_the_answer_with_its_headers(serve: Serve) -> None:
    """Defect 12: the headers were lost."""
    answer = requests.post(f"{serve(anything).url}/predict", json={"http": 429}, timeout=10)
    assert (answer.status_code, answer.json()) == (429, {"detail": "as asked"})
    assert answer.headers["retry-after"] == "7"


@pytest.mark.parametrize("body", [{"raise": "secret"}, {"unpicklable": 1}])
def test_any_other_exception_is_500_and_tells_nothing(serve: Serve, body: Any) -> None:
    """Defect 8: an exception that cannot be pickled killed the worker."""
    url = serve(anything).url
    for _ in range(2):
        answer = requests.post(f"{url}/predict", json=body, timeout=10)
        assert (answer.status_code, answer.json()) == (500, {"detail": "Internal server error"})
    assert requests.post(f"{url}/predict", json=1, timeout=10).json() == 1


def test_a_request_that_takes_longer_than_timeout_is_504(serve: Serve) -> None:
    """Defect 10: only the wait in the queue counted."""
    answer = requests.post(f"{serve(impatient).url}/predict", json={"sleep_s": 2}, timeout=10)
    assert (answer.status_code, answer.json()) == (504, {"detail": "Request timed out"})


def test_a_batch_of_the_wrong_length_is_500(serve: Serve) -> None:
    answer = requests.post(f"{serve(short_batch).url}/predict", json=1, timeout=10)
    assert (answer.status_code, answer.json()) == (500, {"detail": "Batch size mismatch"})


def test_a_body_over_the_limit_is_413(serve: Serve) -> None:
    url = f"{serve(anything).url}/predict"
    answer = requests.post(url, data=b'"' + b"x" * 1000 + b'"', timeout=10)
    assert (answer.status_code, answer.json()) == (413, {"detail": "Payload too large"})
    parts = iter([b'"', b"x" * 600, b"x" * 600, b'"'])
    answer = requests.post(url, data=parts, timeout=10)  # chunked: no Content-Length to believe
    assert answer.status_code == 413
    assert requests.post(url, data=b'"' + b"x" * 900 + b'"', timeout=10).status_code == 200


def test_a_typed_request_that_fails_is_fastapis_422(serve: Serve) -> None:
    answer = requests.post(f"{serve(typed).url}/predict", json={"name": "a"}, timeout=10)
    assert answer.status_code == 422
    assert answer.json() == {
        "detail": [
            {
                "type": "missing",
                "loc": ["body", "price"],
                "msg": "Field required",
                "input": {"name": "a"},
            }
        ]
    }


@pytest.mark.parametrize("body", [b"{", b"", b"\xff\xfe"])
def test_what_is_no_json_is_400(serve: Serve, body: bytes) -> None:
    """Defect 13: it was 500."""
    answer = requests.post(f"{serve(square).url}/predict", data=body, timeout=10)
    assert answer.status_code == 400
    assert "detail" in answer.json()
