# SPDX-License-Identifier: Apache-2.0
"""Section 3: LitServer's arguments and checks, without starting it."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
from fastapi import FastAPI
from parity_apis import Batched, Square, Stream

import cubbyhole as ls

ORDER = (
    "lit_api accelerator devices workers_per_device timeout healthcheck_path info_path shutdown_path enable_shutdown_api "
    "model_metadata spec max_payload_size track_requests callbacks middlewares loggers fast_queue disable_openapi_url "
    "max_batch_size batch_timeout stream api_path loop restart_workers"
)


def test_litserves_arguments_are_all_there() -> None:
    names = set(inspect.signature(ls.LitServer).parameters)
    assert set(ORDER.split()) <= names


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (
            {"accelerator": "tpu"},
            "accelerator must be one of 'auto', 'cpu', 'mps', 'cuda', or 'gpu'",
        ),
        (
            {"accelerator": "cuda", "devices": "x"},
            "devices must be an integer or a list of integers",
        ),
        ({"workers_per_device": 0}, "workers_per_device must be >= 1"),
        (
            {"workers_per_device": [1, 2]},
            "workers_per_device list length must match number of APIs",
        ),
        ({"workers_per_device": [0]}, "workers_per_device values must be integers >= 1"),
        (
            {"workers_per_device": {"/x": 1}},
            "workers_per_device contains unknown api_path values: ['/x'] (unknown api_path)",
        ),
        ({"healthcheck_path": "health"}, "healthcheck_path must start with '/'"),
        ({"info_path": "info"}, "info_path must start with '/'"),
        ({"shutdown_path": "x", "enable_shutdown_api": True}, "shutdown_path must start with '/'"),
        ({"model_metadata": {"a": object()}}, "model_metadata must be JSON serializable."),
        ({"loggers": [1]}, "Logger must be an instance of"),
        ({"loggers": 1}, "loggers must be a list or an instance of"),
    ],
)
def test_wrong_options_are_refused_with_litserves_texts(options: Any, text: str) -> None:
    with pytest.raises(ValueError) as caught:
        ls.LitServer(Square(), **options)
    assert text in str(caught.value)


def test_workers_per_device_of_another_type_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="workers_per_device must be an int, a list/tuple of ints"):
        ls.LitServer(Square(), workers_per_device="2")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("apis", "text"),
    [
        (1, "lit_apis must be a LitAPI or an iterable of LitAPI, but got <class 'int'>"),
        ([], "lit_apis must not be an empty iterable"),
        ([Square(), Square()], "api_path /predict is already in use by"),
        (
            [Square(), Square(api_path="/health")],
            "api_path /health is already in use by LitServe healthcheck",
        ),
        ([Square(), Square(api_path="/info")], "api_path /info is already in use by LitServe info"),
    ],
)
def test_wrong_apis_are_refused_with_litserves_texts(apis: Any, text: str) -> None:
    with pytest.raises(ValueError) as caught:
        ls.LitServer(apis)
    assert text in str(caught.value)


def test_generators_and_stream_must_agree() -> None:
    with pytest.raises(ValueError, match="must not be generator or async generator functions"):
        ls.LitServer(Stream())
    with pytest.raises(ValueError) as caught:
        ls.LitServer(Square(stream=True))
    assert (
        "When `stream=True` both `lit_api.predict` and\n"
        "             `lit_api.encode_response` must generate values using `yield`"
    ) in str(caught.value)


def test_a_batched_stream_needs_a_generator_unbatch() -> None:
    class Lists(Stream):
        def unbatch(self, output: Any) -> Any:
            return list(output)

    with pytest.raises(ValueError) as caught:
        ls.LitServer(Lists(stream=True, max_batch_size=2))
    assert (
        "When `stream=True` with max_batch_size > 1, `lit_api.predict`, `lit_api.encode_response` and\n"
        "                `lit_api.unbatch` must generate values using `yield`"
    ) in str(caught.value)


def test_a_plain_async_predict_is_refused_when_the_server_is_made() -> None:
    """Defect 38: it was accepted, and each request was 500."""

    class Async(ls.LitAPI):
        async def predict(self, x: Any) -> Any:
            return x

    with pytest.raises(ValueError, match="enable_async"):
        ls.LitServer(Async())


def test_timeout_bounds_batch_timeout() -> None:
    with pytest.raises(ValueError, match="batch_timeout must be less than request_timeout"):
        ls.LitServer(Batched(max_batch_size=2, batch_timeout=5), timeout=1)
    for timeout in (False, -1):
        server = ls.LitServer(Batched(max_batch_size=2, batch_timeout=5), timeout=timeout)
        assert server.settings.endpoints[0].timeout_s == float("inf")


@pytest.mark.parametrize(
    ("accelerator", "devices", "expected"),
    [
        ("cpu", 1, ["cpu"]),
        ("CPU", 4, ["cpu"]),
        ("cuda", 2, [["cuda:0"], ["cuda:1"]]),
        ("cuda", [1, 2], [["cuda:1"], ["cuda:2"]]),
        ("mps", 1, [["mps:0"]]),
    ],
)
def test_devices_are_litserves_lists(accelerator: str, devices: Any, expected: Any) -> None:
    server = ls.LitServer(Square(), accelerator=accelerator, devices=devices)
    assert server.devices == expected
    flat = [name if isinstance(name, str) else name[0] for name in expected]
    assert list(server.settings.endpoints[0].workers) == flat


def test_device_identifiers_name_devices() -> None:
    assert ls.LitServer(Square()).device_identifiers("cpu", [1, 2]) == ["cpu:1", "cpu:2"]


@pytest.mark.parametrize(
    ("given", "counts"), [(2, [2, 2]), ([1, 3], [1, 3]), ({"/b": 4}, [1, 4]), ((2, 1), [2, 1])]
)
def test_workers_are_counted_for_each_api(given: Any, counts: list[int]) -> None:
    server = ls.LitServer([Square(), Square(api_path="/b")], workers_per_device=given)
    assert [len(endpoint.workers) for endpoint in server.settings.endpoints] == counts


@pytest.mark.parametrize(
    ("options", "attribute", "value"),
    [
        ({"max_batch_size": 4, "batch_timeout": 0.1}, "max_batch_size", 4),
        ({"api_path": "/moved"}, "api_path", "/moved"),
    ],
)
def test_moved_options_work_with_a_warning(options: Any, attribute: str, value: Any) -> None:
    api = Batched()
    with pytest.warns(DeprecationWarning, match="being deprecated in `LitServer`"):
        ls.LitServer(api, **options)
    assert getattr(api, attribute) == value


def test_stream_given_to_the_server_works_with_a_warning() -> None:
    api = Stream()
    with pytest.warns(DeprecationWarning, match="being deprecated in `LitServer`"):
        ls.LitServer(api, stream=True)
    assert api.stream is True


def test_a_spec_given_to_the_server_works_with_a_warning() -> None:
    from parity_apis import Chat

    with pytest.warns(DeprecationWarning, match="being deprecated in `LitServer`"):
        server = ls.LitServer(Chat(), spec=ls.OpenAISpec())
    assert server.settings.endpoints[0].path == "/v1/chat/completions"


def test_public_attributes_are_litserves() -> None:
    api = Square()
    server = ls.LitServer(api, model_metadata={"a": 1}, track_requests=True)
    assert isinstance(server.app, FastAPI)
    assert server.lit_api is api
    assert server.timeout == 30
    assert server.track_requests is True
    assert server.model_metadata == {"a": 1}
    assert (server.healthcheck_path, server.info_path) == ("/health", "/info")
    assert server.workers_per_device == 1
    assert server.max_payload_size is None
    assert server.middlewares == []
    assert server.monitor_internal == 2
    assert server.uvicorn_graceful_timeout == 30
    assert server.active_requests == 0
    assert ls.LitServer(Square()).active_requests is None
    assert server.lit_apis[0].request_timeout == 30
