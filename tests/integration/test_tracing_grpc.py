# SPDX-License-Identifier: Apache-2.0
"""Requests by gRPC have spans, too: below the caller's, whose `traceparent` came as metadata."""

from __future__ import annotations

import secrets
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from tests.conftest import poll_until

from cubbyhole.testing.serving import serving

pytest.importorskip("grpc", reason="needs cubbyhole[grpc]")
pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="needs cubbyhole[otel]")

from tests.integration.collector import Collector, Received, collecting

triton = pytest.importorskip("tritonclient.grpc", reason="needs: pip install 'tritonclient[grpc]'")

if TYPE_CHECKING:
    from collections.abc import Iterator

APIS = f"{Path(__file__).with_name('grpc_apis.py')}:make_server"
PARENT = "b7ad6b7169203331"
INFER = "/v2/models/watched/infer"


@pytest.fixture(scope="module")
def traced() -> Iterator[tuple[Any, Collector]]:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = int(probe.getsockname()[1])
    with collecting() as collector:
        environment = {
            "GRPC_PORT": str(port),
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
            "OTEL_BSP_SCHEDULE_DELAY": "50",
        }
        with (
            serving(APIS, arguments=["--otel"], timeout_s=120, environment=environment),
            triton.InferenceServerClient(f"127.0.0.1:{port}") as client,
        ):
            yield client, collector


def infer(client: Any, wish: float, **headers: str) -> None:
    tensor = triton.InferInput("x", [1, 2], "FP32")
    tensor.set_data_from_numpy(np.array([[wish, 0]], np.float32))
    client.infer("watched", [tensor], headers=headers)


def spans_of(collector: Collector, trace: str, *names: str) -> dict[str, Received]:
    def found() -> dict[str, Received]:
        return {span.name: span for span in collector.spans if span.trace == trace}

    poll_until(lambda: found().keys() >= set(names))
    return found()


def test_a_call_with_a_traceparent_has_its_spans_below_the_callers(
    traced: tuple[Any, Collector],
) -> None:
    client, collector = traced
    trace = secrets.token_hex(16)
    infer(client, 0, traceparent=f"00-{trace}-{PARENT}-01", tracestate="vendor=t61")
    spans = spans_of(collector, trace, f"POST {INFER}", "queue", "worker", "predict")
    front = spans[f"POST {INFER}"]
    assert front.parent == PARENT
    assert front.state == spans["worker"].state == "vendor=t61"
    assert spans["queue"].parent == spans["worker"].parent == front.id
    assert spans["predict"].parent == spans["worker"].id
    assert front.attributes["cubbyhole.endpoint"] == INFER
    assert front.attributes["http.response.status_code"] == 200
    same = spans["worker"].attributes["cubbyhole.request.id"]
    assert front.attributes["cubbyhole.request.id"] == same


def test_a_call_without_one_begins_a_trace_and_a_refused_one_says_so(
    traced: tuple[Any, Collector],
) -> None:
    client, collector = traced
    before = {span.trace for span in collector.spans}
    with pytest.raises(triton.InferenceServerException, match="as you wish"):
        infer(client, 2)

    def begun() -> list[Received]:
        return [one for one in collector.named(f"POST {INFER}") if one.trace not in before]

    (front,) = poll_until(begun)
    assert front.parent == ""
    assert front.attributes["http.response.status_code"] == 422
