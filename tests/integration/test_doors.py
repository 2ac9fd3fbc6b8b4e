# SPDX-License-Identifier: Apache-2.0
"""A server's limits hold whichever way a request comes: by HTTP, by gRPC, by handed memory."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from tests.conftest import poll_until
from tests.integration.test_grpc import free_port

import cubbyhole as ls
from cubbyhole.core.errors import AnswerError
from cubbyhole.testing.serving import serving

triton = pytest.importorskip("tritonclient.grpc")
pytest.importorskip("ml_dtypes")

if TYPE_CHECKING:
    from collections.abc import Iterator

APIS = f"{Path(__file__).with_name('doors_apis.py')}:make_server"
DOORS = ("http", "grpc", "handover")
# gRPC has one code for two of ours
GRPC_CODES = {
    "RESOURCE_EXHAUSTED": (413, 429),
    "UNAVAILABLE": (503,),
    "DEADLINE_EXCEEDED": (504,),
    "UNAUTHENTICATED": (401,),
}
HOLD, PASS = 1.0, 2.0
MIB = 1 << 20


class House:
    """A server with some options, and clients at each of its doors."""

    def __init__(self, url: str, grpc_port: int, folder: Path) -> None:
        self.url = url
        self.grpc_port = grpc_port
        self.begun, self.until = folder / "begun", folder / "until"

    def ask(self, door: str, number: float, size_bytes: int = 4096, key: str = "") -> list[int]:
        """Send an array that begins with a number; returns which statuses the answer may mean."""
        x = np.zeros(size_bytes // 4, np.float32)
        x[0] = number
        return list(
            {"http": self._http, "grpc": self._grpc, "handover": self._handed}[door](x, key)
        )

    def _http(self, x: Any, key: str) -> tuple[int, ...]:
        file = BytesIO()
        np.save(file, x)
        headers = {"Content-Type": "application/x-npy", **({"X-API-Key": key} if key else {})}
        line = http.client.HTTPConnection(self.url.rpartition("/")[2], timeout=60)
        with contextlib.closing(
            line
        ):  # kept alive: a refusal may come before all of the body was sent
            line.request("POST", "/predict", file.getvalue(), headers)
            answer = line.getresponse()
            body = answer.read()
        assert answer.status != 200 or json.loads(body) == {"size": x.size}
        return (answer.status,)

    def _grpc(self, x: Any, key: str) -> tuple[int, ...]:
        tensor = triton.InferInput("x", [1, x.size], "FP32")
        tensor.set_data_from_numpy(x[None])
        with triton.InferenceServerClient(f"127.0.0.1:{self.grpc_port}") as client:
            try:
                client.infer("held", [tensor], headers={"x-api-key": key} if key else None)
            except triton.InferenceServerException as error:
                return GRPC_CODES[str(error.status()).removeprefix("StatusCode.")]
        return (200,)

    def _handed(self, x: Any, key: str) -> tuple[int, ...]:
        port = int(self.url.rpartition(":")[2])
        with ls.LocalClient(port, api_key=key or None, timeout_s=60) as client:
            try:
                assert client.predict(x) == {"size": x.size}
            except AnswerError as error:
                return (error.status_code,)
        return (200,)

    @contextlib.contextmanager
    def holding(self, door: str, size_bytes: int = 4096, key: str = "") -> Iterator[None]:
        """Have a request under way that came in by this door; at the end it is answered."""
        answers: list[list[int]] = []
        self.begun.unlink(missing_ok=True)
        self.until.unlink(missing_ok=True)
        asking = threading.Thread(
            target=lambda: answers.append(self.ask(door, HOLD, size_bytes, key))
        )
        asking.start()
        try:
            poll_until(self.begun.exists, timeout_s=60)
            yield
        finally:
            self.until.touch()
            asking.join()
        assert answers == [[200]]


@contextlib.contextmanager
def house(
    folder: Path, environment: dict[str, str] | None = None, **options: Any
) -> Iterator[House]:
    port = free_port()
    told = {
        "GRPC_PORT": str(port),
        "DOORS_OPTIONS": json.dumps({"workers_per_device": 2, **options}),
        "DOORS_BEGUN": str(folder / "begun"),
        "DOORS_UNTIL": str(folder / "until"),
    }
    told |= environment or {}
    one_front = ["--fronts", "1"]  # several share a limit out
    with serving(
        APIS, arguments=one_front, timeout_s=60, environment=told, ready=not environment
    ) as served:
        yield House(served.url, port, folder)


def test_one_request_too_many_is_refused_at_each_door(tmp_path: Path) -> None:
    with house(tmp_path, max_queue=1) as one:
        for door in DOORS:
            with one.holding(door):
                for other in DOORS:
                    assert 503 in one.ask(other, PASS), f"{door} under way, {other} asks"
            assert one.ask(door, PASS) == [200], door


def test_a_clients_own_limit_holds_at_each_door_and_spares_others(tmp_path: Path) -> None:
    with house(tmp_path, max_queue_per_key=1) as one:
        for door in DOORS:
            with one.holding(door, key="a"):
                for other in DOORS:
                    assert 429 in one.ask(other, PASS, key="a"), f"{door} under way, {other} asks"
                    assert one.ask(other, PASS, key="b") == [200], other
            assert one.ask(door, PASS, key="a") == [200], door


def test_without_a_key_clients_of_grpc_and_http_go_by_one_address(tmp_path: Path) -> None:
    with house(tmp_path, max_queue_per_key=1) as one:
        for door, other in (("http", "grpc"), ("grpc", "http")):
            with one.holding(door):
                assert 429 in one.ask(other, PASS), f"{door} under way, {other} asks"
                assert one.ask("handover", PASS) == [200], (
                    "a process of this machine is another client"
                )


def test_the_header_that_names_clients_counts_at_each_door(tmp_path: Path) -> None:
    with (
        house(tmp_path, max_queue_per_key=1, client_key="x-tenant") as one,
        one.holding("http"),
        triton.InferenceServerClient(f"127.0.0.1:{one.grpc_port}") as client,
    ):
        tensor = triton.InferInput("x", [1, 1], "FP32")
        tensor.set_data_from_numpy(np.full((1, 1), PASS, np.float32))
        client.infer("held", [tensor], headers={"x-tenant": "a"})
        with pytest.raises(triton.InferenceServerException, match="RESOURCE_EXHAUSTED"):
            client.infer("held", [tensor])


def test_bytes_under_way_are_counted_at_each_door(tmp_path: Path) -> None:
    with house(tmp_path, max_queue_bytes=2 * MIB) as one:
        for door in DOORS:
            with one.holding(door, 3 * MIB // 2):
                for other in DOORS:
                    assert 503 in one.ask(other, PASS, MIB), f"{door} under way, {other} asks"
                    assert one.ask(other, PASS, 4096) == [200], other
            assert one.ask(door, PASS, MIB) == [200], door


def test_a_payload_over_the_limit_is_refused_at_each_door(tmp_path: Path) -> None:
    with house(tmp_path, max_payload_size="2MiB") as one:
        for door in DOORS:
            assert 413 in one.ask(door, PASS, 2 * MIB + 65536), door
            assert one.ask(door, PASS, MIB) == [200], door


@pytest.mark.parametrize("option", ["timeout", "execution_timeout", "queue_timeout"])
def test_time_is_limited_at_each_door(tmp_path: Path, option: str) -> None:
    options: dict[str, Any] = {option: 0.4, "workers_per_device": 1}
    with house(tmp_path, **options) as one:
        for door in DOORS:
            one.begun.unlink(missing_ok=True)
            one.until.unlink(missing_ok=True)
            if (
                option == "queue_timeout"
            ):  # the one that runs has the worker, the next one waits for it
                with one.holding(door):
                    assert 504 in one.ask(door, PASS), door
            else:
                assert 504 in one.ask(door, HOLD), door
                one.until.touch()
            poll_until(lambda door=door: one.ask(door, PASS) == [200], timeout_s=60)  # type: ignore[misc]


def test_the_key_is_asked_for_at_each_door(tmp_path: Path) -> None:
    with house(tmp_path, {"LIT_SERVER_API_KEY": "secret"}) as one:
        for door in DOORS:
            poll_until(lambda door=door: one.ask(door, PASS, key="secret") == [200], timeout_s=60)  # type: ignore[misc]
            assert one.ask(door, PASS) == [401], door
            assert one.ask(door, PASS, key="wrong") == [401], door
