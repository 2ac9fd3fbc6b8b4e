# SPDX-License-Identifier: Apache-2.0
"""LitServer's parameters: LitServe's order, checks and texts."""

from __future__ import annotations

import base64
import inspect
from pathlib import Path
from typing import Any

import pytest
from tests.unit.front.house import EchoAPI, StreamAPI

import cubbyhole as ls
from cubbyhole.core.settings import ServerSettings
from cubbyhole.front import options
from cubbyhole.front.tls import options_from_environment

LITSERVE_ORDER = [
    "lit_api",
    "accelerator",
    "devices",
    "workers_per_device",
    "timeout",
    "healthcheck_path",
    "info_path",
    "shutdown_path",
    "enable_shutdown_api",
    "model_metadata",
    "spec",
    "max_payload_size",
    "track_requests",
    "callbacks",
    "middlewares",
    "loggers",
    "fast_queue",
    "disable_openapi_url",
    "max_batch_size",
    "batch_timeout",
    "stream",
    "api_path",
    "loop",
    "restart_workers",
]


class BatchedStream(StreamAPI):
    def unbatch(self, output: Any) -> Any:
        return output


class AsyncAPI(ls.LitAPI):
    async def predict(self, x: Any, **_: Any) -> Any:
        return x


REFUSED: list[tuple[Any, dict[str, Any], type[Exception], str]] = [
    (5, {}, ValueError, "lit_apis must be a LitAPI or an iterable of LitAPI, but got <class 'int'>"),
    ([1], {}, ValueError, "lit_apis must be a LitAPI or an iterable of LitAPI, but got <class 'int'>"),
    ([], {}, ValueError, "lit_apis must not be an empty iterable"),
    (None, {"accelerator": "tpu"}, ValueError, "accelerator must be one of 'auto', 'cpu', 'mps', 'cuda', or 'gpu'. Found: tpu"),
    (None, {"accelerator": "cuda", "devices": "x"}, ValueError, "devices must be an integer or a list of integers when using"),
    (None, {"workers_per_device": 0}, ValueError, "workers_per_device must be >= 1"),
    (None, {"workers_per_device": [1, 2]}, ValueError, "workers_per_device list length must match number of APIs"),
    (None, {"workers_per_device": [0]}, ValueError, "workers_per_device values must be integers >= 1"),
    (None, {"workers_per_device": {"/x": 1}}, ValueError, "workers_per_device contains unknown api_path values"),
    (None, {"workers_per_device": 1.5}, TypeError, "workers_per_device must be an int, a list/tuple of ints"),
    (None, {"healthcheck_path": "h"}, ValueError, "healthcheck_path must start with '/'"),
    (None, {"info_path": "i"}, ValueError, "info_path must start with '/'"),
    (None, {"shutdown_path": "s", "enable_shutdown_api": True}, ValueError, "shutdown_path must start with '/'"),
    (None, {"model_metadata": {"a": object()}}, ValueError, "model_metadata must be JSON serializable."),
    (None, {"callbacks": [1]}, ValueError, "Invalid callback type"),
    (None, {"middlewares": (1,)}, ValueError, "middlewares must be a list of tuples"),
    (None, {"loggers": [1]}, ValueError, "Logger must be an instance of litserve.Logger"),
    (None, {"loggers": 1}, ValueError, "loggers must be a list or an instance of litserve.Logger"),
    (None, {"max_payload_size": "lots"}, ValueError, "max_payload_size must be bytes or text like '100MB'"),
    (EchoAPI(batch_timeout=5), {"timeout": 1}, ValueError, "batch_timeout must be less than request_timeout"),
    ([EchoAPI(), EchoAPI()], {}, ValueError, "api_path /predict is already in use by"),
    ([EchoAPI(api_path="/health"), EchoAPI()], {}, ValueError, "api_path /health is already in use by LitServe healthcheck"),
    ([EchoAPI(api_path="/info"), EchoAPI()], {}, ValueError, "api_path /info is already in use by LitServe info"),
    (StreamAPI(), {}, ValueError, "When `stream=False`, `lit_api.predict`, `lit_api.encode_response` must not be"),
    (EchoAPI(stream=True), {}, ValueError,
     ("When `stream=True` both `lit_api.predict` and\n             `lit_api.encode_response` must generate values "
     "using `yield`")),
    (BatchedStream(stream=True, max_batch_size=2), {}, ValueError,
     ("When `stream=True` with max_batch_size > 1, `lit_api.predict`, `lit_api.encode_response` and\n                "
     "`lit_api.unbatch` must generate values using `yield`")),
    (AsyncAPI(enable_async=True, max_batch_size=2), {}, ValueError,
     "Async batching is not supported. Please use enable_async=False with batching."),
]  # fmt: skip


@pytest.mark.parametrize(("api", "given", "error", "text"), REFUSED, ids=range(len(REFUSED)))
def test_what_cannot_be_served_is_refused_with_litserves_text(
    api: Any, given: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error) as caught:
        ls.LitServer(EchoAPI() if api is None else api, **given)
    assert str(caught.value).startswith(text)


def test_parameters_stand_in_litserves_order() -> None:
    parameters = inspect.signature(ls.LitServer).parameters.values()
    by_position = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert by_position == LITSERVE_ORDER


def test_parameters_of_run_stand_in_litserves_order() -> None:
    parameters = list(inspect.signature(ls.LitServer.run).parameters)
    assert parameters == (
        [
            "self",
            "host",
            "port",
            "num_api_servers",
            "log_level",
            "generate_client_file",
            "api_server_worker_type",
            "pretty_logs",
            "kwargs",
        ]
    )


def test_options_become_settings() -> None:
    server = ls.LitServer(
        [EchoAPI(api_path="/a", max_batch_size=4, batch_timeout=0.5), StreamAPI(stream=True)],
        workers_per_device={"/a": 2},
        accelerator="cpu",
        timeout=False,
        max_payload_size="64MiB",
        channel="pipes",
        slots=7,
        arena_bytes=1 << 20,
        server_timing=True,
    )
    assert isinstance(server.settings, ServerSettings)
    first, second = server.settings.endpoints
    assert (first.path, first.workers, first.max_batch_size) == ("/a", ("cpu", "cpu"), 4)
    assert (second.path, second.workers, second.stream) == ("/predict", ("cpu",), True)
    assert first.batch_timeout_s == 0.5
    assert first.timeout_s == float("inf")
    assert server.settings.max_payload_bytes == 64 << 20
    assert (server.settings.channel, server.settings.slots) == ("pipes", 7)
    assert server.settings.arena_bytes == 1 << 20
    assert server.settings.server_timing
    assert server.devices == ["cpu"]
    assert server.lit_apis[0].request_timeout is False


@pytest.mark.parametrize(
    ("devices", "expected"),
    [(2, [["cuda:0"], ["cuda:1"]]), ([1, 2], [["cuda:1"], ["cuda:2"]])],
)
def test_a_worker_gets_the_inner_name_of_its_device(devices: Any, expected: Any) -> None:
    server = ls.LitServer(EchoAPI(), accelerator="cuda", devices=devices, workers_per_device=2)
    assert server.devices == expected
    names = [inner[0] for inner in expected]
    assert server.settings.endpoints[0].workers == tuple(n for n in names for _ in range(2))
    assert server.device_identifiers("cpu", [1, 2]) == ["cpu:1", "cpu:2"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [(None, None), (10, 10), (1.5e6, 1_500_000), ("100MB", 10**8), ("64 MiB", 64 << 20), ("7", 7), ("1.5kb", 1500)],
)  # fmt: skip
def test_sizes_may_be_text(given: Any, expected: int | None) -> None:
    assert options.payload_bytes(given) == expected


@pytest.mark.parametrize(
    ("name", "value"),
    [("max_batch_size", 4), ("batch_timeout", 0.2), ("api_path", "/new"), ("stream", True)],
)
def test_what_moved_to_the_litapi_still_works_and_warns(name: str, value: Any) -> None:
    api = StreamAPI() if name == "stream" else EchoAPI()
    with pytest.warns(DeprecationWarning, match="deprecated in `LitServer`"):
        ls.LitServer(api, **{name: value})
    assert getattr(api, name) == value


def test_the_callers_list_of_middlewares_stays_as_it_is() -> None:
    mine: list[Any] = []
    ls.LitServer(EchoAPI(), middlewares=mine, max_payload_size=5)
    assert mine == []


@pytest.mark.parametrize("name", ["LIT_SERVER_API_KEY", "SHUTDOWN_API_KEY"])
def test_an_empty_key_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"cubbyhole.server.{name}", "")
    with pytest.raises(ValueError, match="is set but empty"):
        ls.LitServer(EchoAPI())


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"port": "x"}, "port must be a value from 1024 to 65535 but got x"),
        ({"port": 65536}, "port must be a value from 1024 to 65535 but got 65536"),
        ({"port": 80}, "port must be a value from 1024 to 65535 but got 80"),
        ({"host": "no such host"}, "host must be '0.0.0.0', '127.0.0.1', or '::' but got no such host"),
        ({"num_api_servers": 0}, "num_api_servers must be greater than 0"),
        ({"api_server_worker_type": "fiber"}, "Invalid value for api_server_worker_type. Must be 'process' or 'thread'"),
    ],
)  # fmt: skip
def test_run_refuses_before_anything_starts(
    given: dict[str, Any], text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError) as caught:
        ls.LitServer(EchoAPI()).run(generate_client_file=True, **given)
    assert str(caught.value).startswith(text)
    assert list(tmp_path.iterdir()) == [], "a client file for a server that never ran"


@pytest.mark.parametrize("host", ["0.0.0.0", "127.0.0.1", "::", "127.0.0.2", "localhost", "::1"])
def test_every_address_will_do(host: str) -> None:
    options.check_run(host, None, None)


@pytest.mark.parametrize("port", [0, 1024, "8000", 65535])
def test_ports_are_numbers_or_text(port: Any) -> None:
    assert options.check_port(port) == int(port)


def test_the_client_file_is_a_request_and_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ls.LitServer.generate_client_file(port=8123)
    text = Path("client.py").read_text(encoding="utf-8")
    assert 'requests.post("http://127.0.0.1:8123/predict", json={"input": 4.0})' in text
    compile(text, "client.py", "exec")
    ls.LitServer.generate_client_file(port=9000)
    assert Path("client.py").read_text(encoding="utf-8") == text


def test_tls_comes_from_the_environment_and_never_touches_a_disk() -> None:
    environ = {
        "LIGHTNING_CERT_PEM": base64.b64encode(b"certificate").decode(),
        "LIGHTNING_KEY_FILE": base64.b64encode(b"key").decode(),
    }
    found = options_from_environment({"a": 1}, environ)
    assert Path(found["ssl_certfile"]).read_bytes() == b"certificate"
    assert Path(found["ssl_keyfile"]).read_bytes() == b"key"
    assert found["ssl_keyfile"].startswith("/proc/self/fd/")
    assert options_from_environment({"ssl_keyfile": "mine"}, environ) == {"ssl_keyfile": "mine"}
    assert options_from_environment({}, {}) == {}
