# SPDX-License-Identifier: Apache-2.0
"""The Open Inference Protocol over real processes, with Triton's own clients."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import requests
from oip_apis import doubled, same

import cubbyhole as ls
import cubbyhole.server
from cubbyhole.testing.serving import serving

triton = pytest.importorskip("tritonclient.http")
ml_dtypes = pytest.importorskip("ml_dtypes")
aio = pytest.importorskip("tritonclient.http.aio")

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cubbyhole.testing.serving import Served

VALUES: dict[str, Any] = {
    "BOOL": np.array([[True, False]]),
    "UINT8": np.array([[0, 255]], np.uint8),
    "INT64": np.array([[-(2**63), 2**63 - 1]], np.int64),
    "FP16": np.array([[0.5, -2]], np.float16),
    "FP32": np.array([[0.5, -2], [1, np.inf]], np.float32),
    "BF16": np.array([[0.5, -2]], ml_dtypes.bfloat16),
    "BYTES": np.array([[b"", "\u00e4\u00f6".encode()]], object),
}


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving(ls.LitServer([*map(same, VALUES), doubled()])) as server:
        yield server


@pytest.fixture
def client(served: Served) -> Iterator[Any]:
    with triton.InferenceServerClient(served.url.removeprefix("http://")) as made:
        yield made


def given(datatype: str, binary: bool) -> Any:
    value = VALUES[datatype]
    tensor = triton.InferInput("x", list(value.shape), datatype)
    tensor.set_data_from_numpy(value, binary_data=binary)
    return tensor


@pytest.mark.parametrize("version", ["", "3"])
@pytest.mark.parametrize("datatype", VALUES)
def test_tritons_client_gets_each_datatype_back_in_binary(
    client: Any, datatype: str, version: str
) -> None:
    answer = client.infer(datatype.lower(), [given(datatype, True)], version, request_id="7")
    np.testing.assert_array_equal(answer.as_numpy("y"), VALUES[datatype])
    said = answer.get_response()
    assert (said["id"], said["model_name"], said["model_version"]) == ("7", datatype.lower(), "3")
    assert "binary_data_size" in said["outputs"][0]["parameters"]


@pytest.mark.parametrize("datatype", ["BOOL", "UINT8", "INT64", "BYTES"])
def test_tritons_client_gets_each_datatype_back_in_json(client: Any, datatype: str) -> None:
    wanted = [triton.InferRequestedOutput("y", binary_data=False)]
    answer = client.infer(datatype.lower(), [given(datatype, False)], outputs=wanted)
    assert answer.get_response()["outputs"][0]["shape"] == list(VALUES[datatype].shape)
    flat = [
        item.encode() if isinstance(item, str) else item
        for item in answer.get_response()["outputs"][0]["data"]
    ]
    assert flat == VALUES[datatype].ravel().tolist()


def test_tritons_client_finds_server_and_model(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("fp32")
    assert client.is_model_ready("fp32", "3")
    assert not client.is_model_ready("none")
    assert client.get_server_metadata()["name"] == "cubbyhole"
    tensor = {"datatype": "FP32", "shape": [-1, 2]}
    assert client.get_model_metadata("fp32")["inputs"] == [{"name": "x", **tensor}]
    assert client.get_model_config("bytes")["input"][0]["data_type"] == "TYPE_STRING"


def test_tritons_client_reads_why_it_was_refused(client: Any) -> None:
    wrong = triton.InferInput("x", [1, 3], "FP32")
    wrong.set_data_from_numpy(np.zeros((1, 3), np.float32))
    with pytest.raises(triton.InferenceServerException, match=r"takes \[-1, 2\]") as caught:
        client.infer("fp32", [wrong])
    assert caught.value.status() == "400"
    classes = [triton.InferRequestedOutput("y", class_count=2)]
    with pytest.raises(triton.InferenceServerException, match="classification"):
        client.infer("fp32", [given("FP32", True)], outputs=classes)


def test_tritons_client_reads_that_a_model_or_version_is_not_served(client: Any) -> None:
    tensor = given("FP32", binary=True)
    for ask in (
        lambda: client.infer("absent", [tensor]),
        lambda: client.infer("fp32", [tensor], model_version="77"),
        lambda: client.get_model_metadata("absent"),
        lambda: client.get_model_config("fp32", model_version="77"),
    ):
        with pytest.raises(
            triton.InferenceServerException, match="Nothing is served at /v2/models/"
        ):
            ask()  # type: ignore[no-untyped-call]


def test_a_refusal_has_the_protocols_shape(served: Served) -> None:
    answer = requests.post(f"{served.url}/v2/models/fp32/infer", data=b"{", timeout=10)
    assert answer.status_code == 400
    assert list(answer.json()) == ["error"]


def test_both_paths_take_the_fast_lane(served: Served) -> None:
    lanes = requests.get(f"{served.url}/info", timeout=10).json()["server"]["lanes"]
    assert set(lanes.values()) == {"fast"}


async def test_tritons_asyncio_client_and_a_batching_model(served: Served) -> None:
    value = np.array([[1, 2]], np.float32)
    tensor = aio.InferInput("x", [1, 2], "FP32")
    tensor.set_data_from_numpy(value)
    async with aio.InferenceServerClient(served.url.removeprefix("http://")) as client:
        assert await client.is_server_ready()
        answer = await client.infer("doubled", [tensor])
    np.testing.assert_array_equal(answer.as_numpy("y"), value * 2)


def test_large_tensors_cross_whole(client: Any) -> None:
    value = np.arange(2 << 20, dtype=np.float32).reshape(-1, 2)
    tensor = triton.InferInput("x", list(value.shape), "FP32")
    tensor.set_data_from_numpy(value)
    np.testing.assert_array_equal(client.infer("fp32", [tensor]).as_numpy("y"), value)


def test_the_api_key_guards_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cubbyhole.server, "LIT_SERVER_API_KEY", "k")
    with serving(ls.LitServer(same("FP32"))) as server:
        place = server.url.removeprefix("http://")
        with triton.InferenceServerClient(place) as client:
            with pytest.raises(triton.InferenceServerException):
                client.infer("fp32", [given("FP32", True)])
            answer = client.infer("fp32", [given("FP32", True)], headers={"X-API-Key": "k"})
    np.testing.assert_array_equal(answer.as_numpy("y"), VALUES["FP32"])
