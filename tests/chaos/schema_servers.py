# SPDX-License-Identifier: Apache-2.0
"""Servers of each kind of HTTP surface, for requests made up from their own OpenAPI documents."""

from __future__ import annotations

from collections.abc import Iterator  # noqa: TC003  read by the server, at run time
from typing import Any

from pydantic import BaseModel, Field
from tests.integration.servers import CHANNEL

import cubbyhole as ls


class Plain(ls.LitAPI):
    """Takes anything that is JSON."""

    def predict(self, x: Any) -> Any:
        """Give it back."""
        return {"output": x}


class Item(BaseModel):
    """A request that is checked."""

    name: str = Field(max_length=20)
    counts: list[int] = Field(max_length=5)
    ratio: float = Field(ge=0, le=1)


class Total(BaseModel):
    """Its answer."""

    name: str
    total: int


class Typed(ls.LitAPI):
    """Takes a model, gives a model."""

    def decode_request(self, request: Item) -> Item:
        """Take it."""
        return request

    def predict(self, x: Item) -> Total:
        """Add up."""
        return Total(name=x.name, total=sum(x.counts))

    def encode_response(self, output: Total) -> Total:
        """Keep it."""
        return output


class Tensor(ls.LitAPI):
    """Doubles arrays, behind the Open Inference Protocol."""

    def predict(self, x: dict[str, Any]) -> dict[str, Any]:
        """Double."""
        return {"y": x["x"] * 2}


class Chat(ls.LitAPI):
    """Says what it was told, behind OpenAI's protocol."""

    def predict(self, x: Any) -> Iterator[str]:
        """Repeat."""
        yield f"{len(x.messages)} messages"


class Embeddings(ls.LitAPI):
    """Four numbers for each text."""

    def predict(self, x: Any) -> Any:
        """Count."""
        one = isinstance(x, str) or (x and isinstance(x[0], int))  # a text, or the tokens of one
        texts = [x] if one else list(x)
        return [[float(len(str(text)))] * 4 for text in texts]

    def encode_response(self, output: Any) -> Any:
        """Wrap."""
        return {"embeddings": output}


def server(api: ls.LitAPI) -> ls.LitServer:
    return ls.LitServer(api, accelerator="cpu", channel=CHANNEL, timeout=10, max_payload_size="1MB")


def plain() -> ls.LitServer:
    """JSON of any kind."""
    return server(Plain())


def typed() -> ls.LitServer:
    """Pydantic models, in batches."""
    return server(Typed())


def inference_protocol() -> ls.LitServer:
    """OIP."""
    tensor = ("FP32", [-1, 2])
    return server(Tensor(spec=ls.OIPSpec("doubled", {"x": tensor}, {"y": tensor})))


def chat() -> ls.LitServer:
    """OpenAI's chat completions."""
    return server(Chat(spec=ls.OpenAISpec()))


def embeddings() -> ls.LitServer:
    """OpenAI's embeddings."""
    return server(Embeddings(spec=ls.OpenAIEmbeddingSpec()))
