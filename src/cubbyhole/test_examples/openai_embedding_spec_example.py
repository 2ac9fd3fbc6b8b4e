# SPDX-License-Identifier: Apache-2.0
"""APIs for `OpenAIEmbeddingSpec`."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from cubbyhole.api.lit_api import LitAPI

if TYPE_CHECKING:
    from collections.abc import Iterator

DIMENSIONS = 768


def _vectors(count: int) -> list[list[float]]:
    return [[random.random() for _ in range(DIMENSIONS)] for _ in range(count)]  # noqa: S311


class TestEmbedAPI(LitAPI):
    """One random vector for each input."""

    __test__ = False  # not a test class, whatever pytest thinks of its name

    def setup(self, device: Any) -> None:
        """Load nothing."""
        del device
        self.model = None

    def predict(self, x: Any) -> Any:
        """Return the vectors: float (inputs, 768)."""
        is_one = isinstance(x, str) or (x and isinstance(x[0], int))
        return _vectors(1 if is_one else len(x))

    def encode_response(self, output: Any) -> Any:
        """Name them."""
        return {"embeddings": output}


class TestEmbedBatchedAPI(TestEmbedAPI):
    """One random vector for each request of a batch."""

    def predict(self, x: Any) -> Any:
        """Return one entry for each request."""
        return [_vectors(1) for _ in x]


class TestEmbedAPIWithUsage(TestEmbedAPI):
    """Says what it cost."""

    def encode_response(self, output: Any) -> Any:
        """Add the usage."""
        return {"embeddings": output, "prompt_tokens": 10, "total_tokens": 10}


class TestEmbedAPIWithYieldPredict(TestEmbedAPI):
    """Wrong: yields in predict."""

    def predict(self, x: Any) -> Iterator[Any]:
        """Yield."""
        yield from _vectors(len(x))


class TestEmbedAPIWithYieldEncodeResponse(TestEmbedAPI):
    """Wrong: yields in encode_response."""

    def encode_response(self, output: Any) -> Iterator[Any]:
        """Yield."""
        yield {"embeddings": output}


class TestEmbedAPIWithNonDictOutput(TestEmbedAPI):
    """Wrong: encode_response returns a list."""

    def encode_response(self, output: Any) -> Any:
        """Return no dict."""
        return [output]


class TestEmbedAPIWithMissingEmbeddings(TestEmbedAPI):
    """Wrong: no embeddings in the dict."""

    def encode_response(self, output: Any) -> Any:
        """Return another key."""
        return {"output": output}
