# SPDX-License-Identifier: Apache-2.0
"""The hooks of OpenAIEmbeddingSpec as a worker's runner calls them."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from cubbyhole.api.lit_api import LitAPI
from cubbyhole.core.errors import HTTPError
from cubbyhole.specs.openai_embedding import EmbeddingRequest, OpenAIEmbeddingSpec

if TYPE_CHECKING:
    from collections.abc import Iterator


def answer(vectors: Any, **fields: Any) -> Any:
    spec = OpenAIEmbeddingSpec()
    raw = json.dumps({"input": "a", "model": "m", **fields}).encode()
    encoded = spec.encode_response(vectors)
    return json.loads(bytes(spec.render(spec.read_request(raw), [[encoded]]).body))


@pytest.mark.parametrize(
    "vectors",
    [
        [[0.5, 1.0]],
        [0.5, 1.0],
        np.array([[0.5, 1.0]], dtype="float32"),
        np.array([0.5, 1.0]),
        [np.array([0.5, 1.0])],
    ],
)
def test_one_vector_in_any_form_has_litserves_shape(vectors: Any) -> None:
    assert answer(vectors) == {
        "data": [{"index": 0, "embedding": [0.5, 1.0], "object": "embedding"}],
        "model": "m",
        "object": "list",
        "usage": {"prompt_tokens": 0, "total_tokens": 0},
    }


def test_base64_is_little_endian_float32() -> None:
    """Defect 21; the openai package asks for base64 unless told otherwise."""
    text = answer([[0.5, -2.0]], encoding_format="base64")["data"][0]["embedding"]
    assert np.frombuffer(base64.b64decode(text), dtype="<f4").tolist() == [0.5, -2.0]


def test_dimensions_shorten_to_length_one() -> None:
    """Defect 21."""
    assert answer([[3.0, 4.0, 12.0]], dimensions=2)["data"][0]["embedding"] == [0.6, 0.8]
    assert answer([[3.0, 4.0]], dimensions=2)["data"][0]["embedding"] == [3.0, 4.0]


def test_more_dimensions_than_there_are_is_the_clients_error() -> None:
    with pytest.raises(HTTPError) as caught:
        answer([[3.0, 4.0]], dimensions=3)
    assert caught.value.status_code == 400


@pytest.mark.parametrize(
    ("sent", "items"),
    [("a", 1), (["a", "b"], 2), ([1, 2, 3], 1), ([[1, 2], [3]], 2)],
)
def test_token_ids_count_as_the_inputs_they_are(sent: Any, items: int) -> None:
    """Defect 21: a list of token ids is one input."""
    assert EmbeddingRequest(input=sent, model="m").get_num_items() == items
    data = answer([[1.0]] * items, input=sent)["data"]
    assert [item["index"] for item in data] == list(range(items))


@pytest.mark.parametrize("sent", [[], [[]], [[1], []]])
def test_an_empty_input_is_the_clients_error(sent: Any) -> None:
    """Defect 21: it was 500."""
    spec = OpenAIEmbeddingSpec()
    with pytest.raises(HTTPError) as caught:
        spec.read_request(json.dumps({"input": sent, "model": "m"}).encode())
    assert caught.value.status_code == 400


def test_an_empty_text_is_an_input() -> None:
    assert EmbeddingRequest(input="", model="m").get_num_items() == 1


def test_several_inputs_are_refused_while_the_server_batches() -> None:
    spec = OpenAIEmbeddingSpec()
    spec._max_batch_size = 8
    raw = json.dumps({"input": ["a", "b"], "model": "m"}).encode()
    with pytest.raises(HTTPError) as caught:
        spec.read_request(raw)
    assert caught.value.status_code == 400
    assert caught.value.detail == (
        "The OpenAIEmbedding spec does not support dynamic batching when client-side batching is used. "
        "To resolve this, either set `max_batch_size=1` or send a single input from the client."
    )
    spec.read_request(json.dumps({"input": ["a"], "model": "m"}).encode())


@pytest.mark.parametrize(
    ("encoded", "text"),
    [
        ([[1.0]], "Expected response to be a dictionary, but got type <class 'list'>"),
        ({"data": []}, "The response does not contain the key 'embeddings'"),
        (
            {"embeddings": [[1.0], [2.0]]},
            "Mismatch between requested and returned embeddings: expected 1, but got 2.",
        ),
    ],
)
def test_a_wrong_output_is_told_to_the_developer(encoded: Any, text: str) -> None:
    spec = OpenAIEmbeddingSpec()
    request = spec.read_request(b'{"input": "a", "model": "m"}')
    with pytest.raises(ValueError, match=text):
        spec.render(request, [[encoded]])


def test_usage_comes_from_encode_response() -> None:
    spec = OpenAIEmbeddingSpec()
    encoded = {"embeddings": [[1.0]], "prompt_tokens": 10, "total_tokens": 12}
    result = spec.render(spec.read_request(b'{"input": "a", "model": "m"}'), [[encoded]])
    assert json.loads(bytes(result.body))["usage"] == {"prompt_tokens": 10, "total_tokens": 12}


class YieldingPredict(LitAPI):
    def predict(self, x: Any) -> Iterator[Any]:
        yield x


class YieldingEncode(LitAPI):
    def predict(self, x: Any) -> Any:
        return x

    def encode_response(self, output: Any) -> Iterator[Any]:
        yield output


@pytest.mark.parametrize(
    ("kind", "name"), [(YieldingPredict, "predict"), (YieldingEncode, "encode_response")]
)
def test_an_api_that_yields_is_refused(kind: type[LitAPI], name: str) -> None:
    with pytest.raises(ValueError, match="You are using yield") as caught:
        kind(spec=OpenAIEmbeddingSpec()).pre_setup()
    assert caught.value.args[0] == (
        f"You are using yield in your {name} method, which is used for streaming."
    )


def test_another_path_moves_the_spec_with_a_warning() -> None:
    class Embed(LitAPI):
        def predict(self, x: Any) -> Any:
            return x

    api = Embed(spec=OpenAIEmbeddingSpec(), api_path="/embed")
    with pytest.warns(UserWarning, match="default path '/v1/embeddings'"):
        api.pre_setup()
    assert api.api_path == "/embed"
    assert api.stream is False
