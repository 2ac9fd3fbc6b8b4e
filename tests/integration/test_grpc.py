# SPDX-License-Identifier: Apache-2.0
"""The Open Inference Protocol over gRPC, with Triton's own client."""

from __future__ import annotations

import queue
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from tests.conftest import poll_until

import cubbyhole as ls
from cubbyhole.testing.serving import serving

triton = pytest.importorskip("tritonclient.grpc")
aio = pytest.importorskip("tritonclient.grpc.aio")
ml_dtypes = pytest.importorskip("ml_dtypes")
grpc = pytest.importorskip("grpc")

if TYPE_CHECKING:
    from collections.abc import Iterator

APIS = f"{Path(__file__).with_name('grpc_apis.py')}:make_server"
VALUES: dict[str, Any] = {
    "BOOL": np.array([[True, False]]),
    "UINT8": np.array([[0, 255]], np.uint8),
    "UINT16": np.array([[0, 65535]], np.uint16),
    "UINT32": np.array([[0, 2**32 - 1]], np.uint32),
    "UINT64": np.array([[0, 2**64 - 1]], np.uint64),
    "INT8": np.array([[-128, 127]], np.int8),
    "INT16": np.array([[-(2**15), 2**15 - 1]], np.int16),
    "INT32": np.array([[-(2**31), 2**31 - 1]], np.int32),
    "INT64": np.array([[-(2**63), 2**63 - 1]], np.int64),
    "FP16": np.array([[0.5, -2]], np.float16),
    "FP32": np.array([[0.5, -2], [1, np.inf]], np.float32),
    "FP64": np.array([[0.5, -2]], np.float64),
    "BF16": np.array([[0.5, -2]], ml_dtypes.bfloat16),
    "BYTES": np.array([[b"", "äö".encode()]], object),
}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    port = free_port()
    with serving(APIS, timeout_s=120, environment={"GRPC_PORT": str(port)}):
        yield f"127.0.0.1:{port}"


@pytest.fixture
def client(address: str) -> Iterator[Any]:
    with triton.InferenceServerClient(address) as made:
        yield made


def given(datatype: str, value: Any) -> Any:
    tensor = triton.InferInput("x", list(value.shape), datatype)
    tensor.set_data_from_numpy(value)
    return tensor


def wish(number: float) -> Any:
    return given("FP32", np.array([[number, 0]], np.float32))


def test_the_server_and_its_models_tell_about_themselves(client: Any) -> None:
    assert client.is_server_live()
    poll_until(client.is_server_ready, timeout_s=40)  # another test ends a worker
    assert client.is_model_ready("fp32", "3")
    assert client.get_server_metadata().name == "cubbyhole"
    metadata = client.get_model_metadata("fp32", as_json=True)
    assert metadata["inputs"] == [{"name": "x", "datatype": "FP32", "shape": ["-1", "2"]}]
    with pytest.raises(triton.InferenceServerException, match="no model"):
        client.get_model_metadata("fp32", "9")


@pytest.mark.parametrize("datatype", VALUES)
def test_each_datatype_comes_back(client: Any, datatype: str) -> None:
    value = VALUES[datatype]
    answer = client.infer(datatype.lower(), [given(datatype, value)], request_id="a")
    np.testing.assert_array_equal(answer.as_numpy("y"), value)
    assert answer.get_response().id == "a"
    assert answer.get_response().model_version == "3"


def test_typed_contents_are_read_too(address: str) -> None:
    from cubbyhole.specs.oip_grpc import MESSAGES, SERVICE

    with grpc.insecure_channel(address) as channel:
        call = channel.unary_unary(
            f"/{SERVICE}/ModelInfer",
            request_serializer=MESSAGES["ModelInferRequest"].SerializeToString,
            response_deserializer=MESSAGES["ModelInferResponse"].FromString,
        )
        request = MESSAGES["ModelInferRequest"](model_name="int64")
        tensor = request.inputs.add(name="x", datatype="INT64", shape=[1, 2])
        tensor.contents.int64_contents.extend([3, -4])
        answer = call(request, timeout=20)
        assert np.frombuffer(answer.raw_output_contents[0], np.int64).tolist() == [3, -4]
        request.raw_input_contents.append(bytes(16))
        with pytest.raises(grpc.RpcError) as caught:
            call(request, timeout=20)
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("model", "tensor", "status"),
    [
        ("absent", given("FP32", VALUES["FP32"]), "NOT_FOUND"),
        ("fp32", given("FP64", VALUES["FP64"]), "INVALID_ARGUMENT"),
        ("fp32", given("FP32", np.zeros((1, 3), np.float32)), "INVALID_ARGUMENT"),
        ("watched", wish(2), "INVALID_ARGUMENT"),
        ("watched", wish(4), "PERMISSION_DENIED"),
        ("watched", wish(5), "INTERNAL"),
        ("watched", wish(3), "UNAVAILABLE"),
    ],
)
def test_failures_have_grpcs_codes(client: Any, model: str, tensor: Any, status: str) -> None:
    with pytest.raises(triton.InferenceServerException) as caught:
        client.infer(model, [tensor])
    assert status in str(caught.value.status())


def test_a_deadline_of_the_rpc_is_the_requests(client: Any) -> None:
    with pytest.raises(triton.InferenceServerException) as caught:
        client.infer("watched", [wish(1)], client_timeout=0.3)
    assert "DEADLINE_EXCEEDED" in str(caught.value.status())


def test_a_cancelled_rpc_takes_its_request_back(client: Any) -> None:
    def seen() -> float:
        return float(client.infer("watched", [wish(0)]).as_numpy("y")[0, 0])

    poll_until(lambda: client.is_model_ready("watched"), timeout_s=40)
    before = seen()
    done: queue.Queue[Any] = queue.Queue()
    under_way = client.async_infer(
        "watched", [wish(1)], callback=lambda result, error: done.put(error)
    )
    under_way.cancel()
    assert "cancelled" in str(done.get(timeout=20)).lower()
    # It was either taken back before a worker had it, or its worker saw that nobody waits.
    assert seen() in {before, before + 1}


def test_a_stream_answers_each_request_and_outlives_a_failure(client: Any) -> None:
    got: queue.Queue[Any] = queue.Queue()
    client.start_stream(callback=lambda result, error: got.put((result, error)))
    client.async_stream_infer("fp32", [given("FP32", VALUES["FP32"])])
    client.async_stream_infer("fp32", [given("FP64", VALUES["FP64"])])
    client.async_stream_infer("fp32", [given("FP32", VALUES["FP32"] * 2)])
    answers = [got.get(timeout=20) for _ in range(3)]
    client.stop_stream()
    np.testing.assert_array_equal(answers[0][0].as_numpy("y"), VALUES["FP32"])
    assert "FP64" in str(answers[1][1])
    np.testing.assert_array_equal(answers[2][0].as_numpy("y"), VALUES["FP32"] * 2)


async def test_the_asyncio_client(address: str) -> None:
    client = aio.InferenceServerClient(address)
    try:
        answer = await client.infer("fp32", [given("FP32", VALUES["FP32"])])
        np.testing.assert_array_equal(answer.as_numpy("y"), VALUES["FP32"])
    finally:
        await client.close()


def test_a_large_tensor(client: Any) -> None:
    value = np.arange(2 << 20, dtype=np.float32).reshape(-1, 2)
    answer = client.infer("fp32", [given("FP32", value)])
    np.testing.assert_array_equal(answer.as_numpy("y"), value)


def ready(client: Any) -> bool:
    try:
        return bool(client.is_server_ready())
    except triton.InferenceServerException:
        return False


def test_the_key_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    environment = {"GRPC_PORT": str(port), "LIT_SERVER_API_KEY": "secret"}
    server = f"{Path(__file__).with_name('grpc_apis.py')}:make_small_server"
    with (
        serving(server, timeout_s=60, environment=environment, ready=False),
        triton.InferenceServerClient(f"127.0.0.1:{port}") as client,
    ):
        poll_until(lambda: ready(client), timeout_s=60)
        for headers in (None, {"x-api-key": "wrong"}):
            with pytest.raises(triton.InferenceServerException) as caught:
                client.infer("fp32", [given("FP32", VALUES["FP32"])], headers=headers)
            assert "UNAUTHENTICATED" in str(caught.value.status())
        client.infer("fp32", [given("FP32", VALUES["FP32"])], headers={"x-api-key": "secret"})


def test_a_port_of_its_own_is_needed() -> None:
    with pytest.raises(ValueError, match="grpc_port"):
        ls.LitServer(ls.LitAPI(), grpc_port=0)
