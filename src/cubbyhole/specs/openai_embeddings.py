# SPDX-License-Identifier: Apache-2.0
"""OpenAI's embeddings over a LitAPI.

Flow:  POST body -> read_request -> predict(input) -> vectors -> floats or base64, as the client asked
Owns:  nothing beside its path.
See:   specs/base.py (the hooks)
"""

from __future__ import annotations

import base64
import inspect
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import msgspec
from pydantic import BaseModel, Field

from cubbyhole.api.lit_api import overrides
from cubbyhole.core.entries import Result
from cubbyhole.core.errors import HTTPError
from cubbyhole.specs.base import LitSpec, as_plain, move_path, read_model

if TYPE_CHECKING:
    from cubbyhole.core.entries import Buffer, RequestMeta

EMBEDDINGS_PATH = "/v1/embeddings"


class EmbeddingRequest(BaseModel):
    """What a client asks: one text, several, one list of token ids, or several."""

    input: str | list[str] | list[int] | list[list[int]]
    model: str
    dimensions: int | None = Field(default=None, ge=1)
    encoding_format: Literal["float", "base64"] = "float"
    user: str | None = None

    def get_num_items(self) -> int:
        """How many vectors the client expects."""
        return len(self.ensure_list())

    def ensure_list(self) -> list[Any]:
        """Return the inputs as a list; a list of token ids is one input."""
        if isinstance(self.input, str) or (self.input and isinstance(self.input[0], int)):
            return [self.input]
        return list(self.input)


class Embedding(BaseModel):
    """One vector; base64 of little-endian float32 where the client asked for it."""

    index: int
    embedding: list[float] | str
    object: Literal["embedding"] = "embedding"


class UsageInfo(BaseModel):
    """Tokens of one answer."""

    prompt_tokens: int = 0
    total_tokens: int = 0


class EmbeddingResponse(BaseModel):
    """The answer."""

    data: list[Embedding]
    model: str
    object: Literal["list"] = "list"
    usage: UsageInfo


class OpenAIEmbeddingSpec(LitSpec):
    """Serves a LitAPI at `/v1/embeddings`, as OpenAI's clients expect it.

    `predict` gets the request's `input` and returns its vectors: float (n, dimensions), as lists, numpy or torch; one flat
    vector counts as one. `encode_response` may be overridden to return `{"embeddings": ..., "prompt_tokens": ...,
    "total_tokens": ...}`. With batching predict gets a list of inputs and returns one entry per request.
    """

    request_model: ClassVar[type[BaseModel] | None] = EmbeddingRequest
    empty_methods: ClassVar[tuple[str, ...]] = ("OPTIONS",)

    def __init__(self) -> None:
        super().__init__()
        self.api_path = EMBEDDINGS_PATH

    def pre_setup(self, lit_api: Any) -> None:
        """Check that the LitAPI returns.

        Raises:
            ValueError: `predict` or `encode_response` is a generator.
        """
        for name in ("predict", "encode_response"):
            method = getattr(lit_api, name)
            is_own = name == "predict" or overrides(lit_api, name)
            if is_own and (
                inspect.isgeneratorfunction(method) or inspect.isasyncgenfunction(method)
            ):
                raise ValueError(
                    f"You are using yield in your {name} method, which is used for streaming.",
                    "OpenAIEmbeddingSpec doesn't support streaming: return the embeddings.",
                )
        move_path(self, lit_api, EMBEDDINGS_PATH)

    def populate_context(self, context: dict[str, Any], request: EmbeddingRequest) -> None:
        """Put everything that the client said beside the input into the context."""
        context.update(request.model_dump(exclude={"input"}))

    def decode_request(self, request: Any, context_kwargs: Any = None) -> Any:  # noqa: ARG002
        """Give `input` to predict, as the client sent it."""
        return request.input

    def encode_response(self, output: Any, context_kwargs: Any = None) -> dict[str, Any]:  # noqa: ARG002
        """Take predict's output as the vectors."""
        return {"embeddings": output, "prompt_tokens": 0, "total_tokens": 0}

    def read_request(self, body: Buffer, meta: RequestMeta | None = None) -> EmbeddingRequest:  # noqa: ARG002
        """Parse and check a body. See `LitSpec.read_request`.

        Raises:
            HTTPError: also 400 for several inputs at once while the server batches by itself.
        """
        request: EmbeddingRequest = read_model(EmbeddingRequest, body)
        count = request.get_num_items()
        if count == 0 or [] in request.ensure_list():
            raise HTTPError(400, "The input is empty: send at least one text or list of token ids.")
        if count > 1 and self._max_batch_size > 1:
            raise HTTPError(
                400,
                "The OpenAIEmbedding spec does not support dynamic batching when client-side batching is used. "
                "To resolve this, either set `max_batch_size=1` or send a single input from the client.",
            )
        return request

    def render(self, request: EmbeddingRequest, outputs: list[list[Any]]) -> Result:
        """Make the answer.

        Raises:
            ValueError: the LitAPI gave something else than one vector for each input.
            HTTPError: 400 where the client wants more dimensions than there are.
        """
        encoded = outputs[0][-1]
        vectors = _vectors(encoded)
        expected = request.get_num_items()
        if len(vectors) != expected:
            raise ValueError(
                f"Mismatch between requested and returned embeddings: expected {expected}, but got {len(vectors)}. "
                "Return one vector for each input."
            )
        if request.dimensions is not None:
            vectors = [_shortened(vector, request.dimensions) for vector in vectors]
        if request.encoding_format == "base64":
            vectors = [_base64(vector) for vector in vectors]
        answer = {
            "data": [
                {"index": index, "embedding": vector, "object": "embedding"}
                for index, vector in enumerate(vectors)
            ],
            "model": request.model,
            "object": "list",
            "usage": {
                "prompt_tokens": encoded.get("prompt_tokens") or 0,
                "total_tokens": encoded.get("total_tokens") or 0,
            },
        }
        return Result(body=msgspec.json.encode(answer, enc_hook=as_plain))


def _vectors(encoded: Any) -> list[Any]:
    """Take the vectors out of what `encode_response` gave."""
    if not isinstance(encoded, dict):
        raise ValueError(  # noqa: TRY004  (LitServe's)
            f"Expected response to be a dictionary, but got type {type(encoded)}. "
            "encode_response must return {'embeddings': [...]}."
        )
    if "embeddings" not in encoded:
        raise ValueError(
            "The response does not contain the key 'embeddings'. "
            f"encode_response must return {{'embeddings': [...]}}, but its keys are {list(encoded)}."
        )
    vectors = encoded["embeddings"]
    if hasattr(vectors, "detach"):  # torch, maybe on a GPU
        vectors = vectors.detach().cpu()
    if hasattr(vectors, "tolist"):
        vectors = vectors.tolist()
    vectors = list(vectors)
    is_flat = bool(vectors) and not hasattr(vectors[0], "__len__")
    return [vectors] if is_flat else vectors


def _floats(vector: Any) -> Any:
    import numpy as np

    if hasattr(vector, "detach"):
        vector = vector.detach().cpu()
    return np.asarray(vector, dtype=np.float64)


def _shortened(vector: Any, dimensions: int) -> Any:
    """Keep the first dimensions and give them length 1 again, as OpenAI's `dimensions` does."""
    import numpy as np

    if len(vector) == dimensions:
        return vector
    if len(vector) < dimensions:
        raise HTTPError(
            400, f"dimensions is {dimensions}, but this model's embeddings have {len(vector)}."
        )
    head = _floats(vector)[:dimensions]
    length = float(np.linalg.norm(head))
    return (head / length if length else head).tolist()


def _base64(vector: Any) -> str:
    return base64.b64encode(_floats(vector).astype("<f4").tobytes()).decode()
