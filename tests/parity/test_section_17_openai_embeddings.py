# SPDX-License-Identifier: Apache-2.0
"""Section 17: OpenAI embeddings, with OpenAI's own client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import openai
import pytest
import requests
from parity_apis import Embed

import cubbyhole as ls
from cubbyhole.test_examples.openai_embedding_spec_example import (
    TestEmbedAPI,
    TestEmbedAPIWithMissingEmbeddings,
    TestEmbedAPIWithNonDictOutput,
    TestEmbedAPIWithUsage,
    TestEmbedAPIWithYieldEncodeResponse,
    TestEmbedAPIWithYieldPredict,
    TestEmbedBatchedAPI,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from cubbyhole.testing.serving import Served

    Serve = Callable[[Callable[[], ls.LitServer]], Served]


def one(api: type[ls.LitAPI], **options: Any) -> Callable[[], ls.LitServer]:
    return lambda: ls.LitServer(api(spec=ls.OpenAIEmbeddingSpec(), **options))


plain = one(TestEmbedAPI)
known = one(Embed)
usage = one(TestEmbedAPIWithUsage)
batched = one(TestEmbedBatchedAPI, max_batch_size=4, batch_timeout=0.05)


def client_of(served: Served) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0, timeout=15)


def test_the_clients_default_is_base64_and_gives_the_same_floats(serve: Serve) -> None:
    """Defect 21: base64 was ignored, so the client got text where it expected numbers."""
    with client_of(serve(known)) as client:
        default = client.embeddings.create(model="lit", input=["abc", "d"])
        floats = client.embeddings.create(model="lit", input=["abc", "d"], encoding_format="float")
    assert [item.embedding for item in default.data] == [[3.0, 0.5, 0.25], [1.0, 0.5, 0.25]]
    assert [item.embedding for item in floats.data] == [item.embedding for item in default.data]
    assert [item.index for item in floats.data] == [0, 1]


def test_one_text_gives_one_vector_in_litserves_shape(serve: Serve) -> None:
    body = {"model": "lit", "input": "abc"}
    answer = requests.post(f"{serve(known).url}/v1/embeddings", json=body, timeout=10)
    assert answer.json() == {
        "data": [{"index": 0, "embedding": [3.0, 0.5, 0.25], "object": "embedding"}],
        "model": "lit",
        "object": "list",
        "usage": {"prompt_tokens": 0, "total_tokens": 0},
    }


@pytest.mark.parametrize("ids", [[1, 2, 3], [[1, 2], [3]]])
def test_token_ids_are_inputs(serve: Serve, ids: Any) -> None:
    """Defect 21: they were 500."""
    with client_of(serve(plain)) as client:
        answer = client.embeddings.create(model="lit", input=ids)
    assert len(answer.data) == (1 if isinstance(ids[0], int) else 2)
    assert len(answer.data[0].embedding) == 768


def test_dimensions_are_honoured(serve: Serve) -> None:
    with client_of(serve(plain)) as client:
        answer = client.embeddings.create(model="lit", input="a", dimensions=16)
        vector = answer.data[0].embedding
        assert len(vector) == 16
        assert sum(x * x for x in vector) == pytest.approx(1.0, abs=1e-5)
        with pytest.raises(openai.BadRequestError):
            client.embeddings.create(model="lit", input="a", dimensions=10_000)


def test_usage_reaches_the_client(serve: Serve) -> None:
    with client_of(serve(usage)) as client:
        answer = client.embeddings.create(model="lit", input="a")
    assert (answer.usage.prompt_tokens, answer.usage.total_tokens) == (10, 10)


def test_the_server_batches_single_inputs_and_refuses_lists(serve: Serve) -> None:
    with client_of(serve(batched)) as client:
        assert len(client.embeddings.create(model="lit", input="a").data[0].embedding) == 768
        with pytest.raises(openai.BadRequestError) as caught:
            client.embeddings.create(model="lit", input=["a", "b"])
    assert "does not support dynamic batching" in caught.value.response.json()["detail"]


@pytest.mark.parametrize("api", [TestEmbedAPIWithNonDictOutput, TestEmbedAPIWithMissingEmbeddings])
def test_a_wrong_output_is_500(serve: Serve, api: type[ls.LitAPI]) -> None:
    body = {"model": "lit", "input": "abc"}
    answer = requests.post(f"{serve(one(api)).url}/v1/embeddings", json=body, timeout=10)
    assert answer.status_code == 500


@pytest.mark.parametrize("api", [TestEmbedAPIWithYieldPredict, TestEmbedAPIWithYieldEncodeResponse])
def test_a_generator_is_refused_when_the_server_is_made(api: type[ls.LitAPI]) -> None:
    with pytest.raises(ValueError, match="You are using yield in your"):
        one(api)()


def test_options_is_200_and_get_is_405(serve: Serve) -> None:
    """Defect 21: upstream registered GET where OPTIONS was meant."""
    url = f"{serve(plain).url}/v1/embeddings"
    assert requests.options(url, timeout=10).status_code == 200
    assert requests.get(url, timeout=10).status_code == 405
