# SPDX-License-Identifier: Apache-2.0
"""OpenAI's chat completions over a LitAPI.

Flow:  POST body -> read_request -> n choices -> predict yields messages -> one JSON document or server-sent events
Owns:  nothing beside its path; one streamed answer is held by `openai_answers.ChatStream`.
See:   specs/base.py (the hooks), specs/openai_models.py (the models), specs/openai_answers.py (the bytes)
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, ClassVar

from cubbyhole.api.lit_api import overrides
from cubbyhole.specs.base import (
    AsyncSpec,
    LitSpec,
    iterate,
    move_path,
    read_model,
)
from cubbyhole.specs.openai_answers import ChatStream, as_message, complete
from cubbyhole.specs.openai_models import ChatCompletionRequest

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator

    from pydantic import BaseModel

    from cubbyhole.core.entries import Buffer, RequestMeta, Result

CHAT_PATH = "/v1/chat/completions"

_HOW_TO = (
    "A LitAPI with OpenAISpec yields its answer:\n\n"
    "    def predict(self, x):\n"
    "        for token in model.generate(x):\n"
    "            yield token\n\n"
    "    def encode_response(self, output):          # may be left out\n"
    "        for token in output:\n"
    '            yield {"role": "assistant", "content": token}\n'
)


class OpenAISpec(LitSpec):
    """Serves a LitAPI at `/v1/chat/completions`, as OpenAI's clients expect it.

    `predict` is a generator of str, None, `{"role": ..., "content": ...}` or `ChatMessage`; it gets the whole
    `ChatCompletionRequest` unless `decode_request` is overridden. A dict may also have `tool_calls`, `finish_reason` and the
    usage keys `prompt_tokens`, `completion_tokens`, `total_tokens`, which are summed over all steps.
    """

    request_model: ClassVar[type[BaseModel] | None] = ChatCompletionRequest
    empty_methods: ClassVar[tuple[str, ...]] = ("OPTIONS",)

    def __init__(self) -> None:
        super().__init__()
        self.api_path = CHAT_PATH

    @property
    def stream(self) -> bool:
        """True: predict always yields, whether or not the client wants a stream."""
        return True

    def pre_setup(self, lit_api: Any) -> None:
        """Check that the LitAPI yields.

        Raises:
            ValueError: `predict` or `encode_response` is no generator, or is async without `enable_async`.
        """
        if lit_api.enable_async:
            _check_async(lit_api)
        else:
            _check_sync(lit_api)
        move_path(self, lit_api, CHAT_PATH)

    def as_async(self) -> Any:
        """Return this spec with `async` methods."""
        return _AsyncChat(self)

    def populate_context(self, context: dict[str, Any], request: Any) -> None:
        """Put everything that the client said beside the messages into the context."""
        context.update(request.model_dump(exclude={"messages"}))

    def decode_request(self, request: Any, context_kwargs: Any = None) -> Any:  # noqa: ARG002
        """Give the `ChatCompletionRequest` to predict."""
        return request

    def encode_response(self, output: Any, context_kwargs: Any = None) -> Any:  # noqa: ARG002
        """Turn what predict yields into messages; with batching each step is a list with one item per request.

        Returns a generator, an asynchronous one for the output of an asynchronous predict.
        """
        if hasattr(output, "__aiter__"):
            return self._messages_async(output)
        return self._messages(output)

    def encode_step(self, output: Any) -> Any:
        """Turn one thing that predict yielded for one request into a message."""
        return as_message(output)

    def _messages(self, output: Iterable[Any]) -> Iterator[Any]:
        for step in output:
            yield self._encode(step)

    async def _messages_async(self, output: AsyncIterable[Any]) -> AsyncIterator[Any]:
        async for step in output:
            yield self._encode(step)

    def _encode(self, step: Any) -> Any:
        return [as_message(item) for item in step] if self._max_batch_size > 1 else as_message(step)

    def read_request(self, body: Buffer, meta: RequestMeta | None = None) -> ChatCompletionRequest:  # noqa: ARG002
        """Parse and check a body. See `LitSpec.read_request`."""
        request: ChatCompletionRequest = read_model(ChatCompletionRequest, body)
        return request

    def choices(self, request: ChatCompletionRequest) -> list[ChatCompletionRequest]:
        """Return one request with n=1 for each of the n answers; the runs share nothing."""
        count = request.n or 1
        if count == 1:
            request.n = 1
            return [request]
        return [request.model_copy(update={"n": 1}, deep=True) for _ in range(count)]

    def answers_with_stream(self, request: ChatCompletionRequest) -> bool:
        """Whether the client asked for a stream."""
        return bool(request.stream)

    def render(self, request: ChatCompletionRequest, outputs: list[list[Any]]) -> Result:
        """Make the whole answer."""
        return complete(request, outputs)

    def open_stream(self, request: ChatCompletionRequest) -> ChatStream:
        """Begin a streamed answer."""
        return ChatStream(request, request.n or 1)


class _AsyncChat(AsyncSpec):
    spec: OpenAISpec

    async def encode_response(  # type: ignore[override]
        self,
        output: Any,
        context_kwargs: Any = None,
    ) -> AsyncIterator[Any]:
        async for message in iterate(self.spec.encode_response(output, context_kwargs)):
            yield message


def _check_sync(lit_api: Any) -> None:
    for name in ("decode_request", "predict", "encode_response"):
        method = getattr(lit_api, name)
        if inspect.iscoroutinefunction(method) or inspect.isasyncgenfunction(method):
            raise ValueError(
                f"'{name}' is defined as async/coroutine, but 'enable_async' is not set in LitAPI. "
                "Construct it with LitAPI(enable_async=True), or make the method synchronous."
            )
    if not inspect.isgeneratorfunction(lit_api.predict) and not _steps(lit_api):
        raise ValueError(f"predict is not a generator. {_HOW_TO}")
    if overrides(lit_api, "encode_response") and not (
        inspect.isgeneratorfunction(lit_api.encode_response) or _steps(lit_api)
    ):
        raise ValueError(f"encode_response is not a generator. {_HOW_TO}")


def _check_async(lit_api: Any) -> None:
    if not inspect.isasyncgenfunction(lit_api.predict):
        raise ValueError(f"predict must be an async generator. {_HOW_TO}")
    encode = lit_api.encode_response
    if overrides(lit_api, "encode_response") and not (
        inspect.isasyncgenfunction(encode) or inspect.isgeneratorfunction(encode)
    ):
        raise ValueError(
            f"encode_response is neither a generator nor an async generator. {_HOW_TO}"
        )


def _steps(lit_api: Any) -> bool:
    """Whether the LitAPI generates step by step (continuous batching), where methods are called once per token."""
    return callable(getattr(lit_api, "step", None)) or callable(
        getattr(lit_api, "has_finished", None)
    )
