# SPDX-License-Identifier: Apache-2.0
"""OpenAI embeddings under LitServe's import path. They are kept in openai_embeddings.py."""

from __future__ import annotations

from cubbyhole.specs.openai_embeddings import (
    Embedding,
    EmbeddingRequest,
    EmbeddingResponse,
    OpenAIEmbeddingSpec,
    UsageInfo,
)

__all__ = [
    "Embedding",
    "EmbeddingRequest",
    "EmbeddingResponse",
    "OpenAIEmbeddingSpec",
    "UsageInfo",
]
