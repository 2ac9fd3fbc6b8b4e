# SPDX-License-Identifier: Apache-2.0
"""Specs: other people's wire formats over a LitAPI. Names are loaded when they are first used, as pydantic is heavy."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cubbyhole.specs.base import LitSpec as LitSpec
    from cubbyhole.specs.oip import OIPSpec as OIPSpec
    from cubbyhole.specs.openai_chat import OpenAISpec as OpenAISpec
    from cubbyhole.specs.openai_embeddings import (
        EmbeddingRequest as EmbeddingRequest,
    )
    from cubbyhole.specs.openai_embeddings import (
        EmbeddingResponse as EmbeddingResponse,
    )
    from cubbyhole.specs.openai_embeddings import (
        OpenAIEmbeddingSpec as OpenAIEmbeddingSpec,
    )
    from cubbyhole.specs.openai_models import (
        ChatCompletionChunk as ChatCompletionChunk,
    )
    from cubbyhole.specs.openai_models import (
        ChatCompletionRequest as ChatCompletionRequest,
    )
    from cubbyhole.specs.openai_models import (
        ChatCompletionResponse as ChatCompletionResponse,
    )

_HOMES = {
    "LitSpec": "base",
    "OIPSpec": "oip",
    "OpenAISpec": "openai_chat",
    "OpenAIEmbeddingSpec": "openai_embeddings",
    "EmbeddingRequest": "openai_embeddings",
    "EmbeddingResponse": "openai_embeddings",
    "ChatCompletionRequest": "openai_models",
    "ChatCompletionResponse": "openai_models",
    "ChatCompletionChunk": "openai_models",
}

__all__ = [
    "ChatCompletionChunk",
    "ChatCompletionRequest",
    "ChatCompletionResponse",
    "EmbeddingRequest",
    "EmbeddingResponse",
    "LitSpec",
    "OIPSpec",
    "OpenAIEmbeddingSpec",
    "OpenAISpec",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{home}"), name)
