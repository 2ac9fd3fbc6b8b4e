# SPDX-License-Identifier: Apache-2.0
"""Hooks that ask for tensors, in real workers. Skipped where torch is not installed: it is no dependency of ours."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import cubbyhole as ls
from cubbyhole.core.errors import AnswerError
from cubbyhole.testing.serving import serving

torch = pytest.importorskip("torch")
pytest.importorskip("httpx")

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cubbyhole.testing.serving import Served

APIS = f"{Path(__file__).with_name('torch_apis.py')}:make_server"
LARGE = 1 << 20  # numbers


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving(APIS, timeout_s=120) as server:
        yield server


@pytest.fixture
def client(served: Served) -> Iterator[ls.Client]:
    with ls.Client(served.url, timeout_s=60) as made:
        yield made


@pytest.fixture
def local(served: Served) -> Iterator[ls.LocalClient]:
    with ls.LocalClient(int(served.url.rpartition(":")[2]), timeout_s=60) as made:
        yield made


@pytest.mark.parametrize("size", [3, LARGE])
@pytest.mark.parametrize("dtype", ["float32", "float16", "int64", "uint8"])
def test_a_tensor_goes_and_comes(
    client: ls.Client, local: ls.LocalClient, dtype: str, size: int
) -> None:
    x = torch.arange(size).to(getattr(torch, dtype)).reshape(1, -1)
    for answer in (client.predict(x, "/doubled"), local.predict(x, "/doubled")):
        assert answer.dtype == np.dtype(dtype)
        np.testing.assert_array_equal(answer, (2 * x).numpy())


def test_tensors_by_name_keep_bfloat16(client: ls.Client) -> None:
    head = b'{"x":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}} '
    body = len(head).to_bytes(8, "little") + head + b"\x80\x3f\x00\xc0"
    answer = client.predict(body, "/named", headers={"Content-Type": "application/x-safetensors"})
    assert answer == {"x": ["torch.bfloat16", -1.0]}
    both: dict[str, Any] = {"a": torch.ones(3), "b": torch.ones(2, dtype=torch.int32)}
    assert client.predict(both, "/named") == {
        "a": ["torch.float32", 3.0],
        "b": ["torch.int32", 2.0],
    }


def test_a_large_tensor_lies_in_the_memory_in_which_it_came(
    client: ls.Client, local: ls.LocalClient
) -> None:
    x = torch.zeros(LARGE)
    assert "memfd:" in client.predict(x, "/where")
    assert "memfd:" in local.predict(x, "/where")


def test_a_type_that_torch_does_not_have_is_400(client: ls.Client) -> None:
    with pytest.raises(AnswerError) as caught:
        client.predict(np.array(["2020-01-01"], "datetime64[D]").view("V8"), "/doubled")
    assert caught.value.status_code == 400


def test_writing_to_a_tensor_changes_nothing_of_the_clients_nor_of_the_next_request(
    client: ls.Client, local: ls.LocalClient
) -> None:
    x = local.empty(LARGE, "float32")
    for value in (1.0, 5.0, 1.0):
        x[:] = value
        for one in (local, client):
            assert one.predict(x, "/scribbled") == (value + 1) * LARGE
            assert (x == value).all(), "the client's own array was written to"
