# SPDX-License-Identifier: Apache-2.0
"""Section 15: specs that users write."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import requests
from fastapi import Request  # noqa: TC002  (FastAPI reads the annotation)

import cubbyhole as ls
from cubbyhole.specs.base import LitSpec
from cubbyhole.testing.serving import serving

if TYPE_CHECKING:
    from collections.abc import Iterator


class Versions(LitSpec):
    """Adds a route; the API keeps its own."""

    def pre_setup(self, lit_api: Any) -> None:
        self.add_endpoint("/versions", self.versions, ["GET"])

    async def versions(self, request: Request) -> dict[str, Any]:
        return {"served_by": type(self._server).__name__, "path": request.url.path}


class Upper(LitSpec):
    """Changes what goes in and out, and knows the request's context."""

    def decode_request(self, request: Any, context_kwargs: Any = None) -> Any:
        return request["text"]

    def encode_response(self, output: Any, context_kwargs: Any = None) -> Any:
        return {"text": output.upper()}

    def populate_context(self, context: Any, request: Any) -> None:
        context["length"] = len(request["text"])


class Says(ls.LitAPI):
    def predict(self, x: Any, context: Any) -> str:
        return f"{x} {context.get('length')}"


class Loud(ls.OpenAISpec):
    """As users change the chat: encode_response takes the stream alone."""

    def encode_response(self, output_stream: Any) -> Iterator[Any]:  # type: ignore[override]
        for output in output_stream:
            yield {"role": "assistant", "content": output.upper()}


class Words(ls.LitAPI):
    def predict(self, x: Any) -> Iterator[str]:
        yield "one "
        yield "two"


def test_a_specs_endpoint_is_a_route_of_the_server() -> None:
    from parity_apis import Square

    spec = Versions()
    with serving(ls.LitServer(Square(spec=spec))) as served:
        answer = requests.get(f"{served.url}/versions", timeout=10).json()
        assert answer == {"served_by": "LitServer", "path": "/versions"}
    assert [(path, methods) for path, _, methods in spec.endpoints] == [("/versions", ["GET"])]


def test_a_spec_decodes_encodes_and_fills_the_context() -> None:
    with serving(ls.LitServer(Says(spec=Upper()))) as served:
        answer = requests.post(f"{served.url}/predict", json={"text": "abc"}, timeout=10)
    assert answer.json() == {"text": "ABC 3"}


def test_a_subclass_of_the_chat_may_encode_by_itself() -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
    with serving(ls.LitServer(Words(spec=Loud()))) as served:
        answer = requests.post(f"{served.url}/v1/chat/completions", json=body, timeout=10)
    assert answer.json()["choices"][0]["message"]["content"] == "ONE TWO"


def test_a_new_spec_is_litserves() -> None:
    spec = LitSpec()
    assert spec.api_path is None
    assert spec.stream is False
    assert spec.endpoints == []
    assert (spec.response_buffer, spec.request_queue, spec.response_queue_id) == (None, None, None)
