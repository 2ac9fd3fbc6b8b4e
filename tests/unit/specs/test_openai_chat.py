# SPDX-License-Identifier: Apache-2.0
"""The hooks of OpenAISpec as a worker's runner calls them."""

from __future__ import annotations

import json
import pickle
import warnings
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from cubbyhole.api.lit_api import LitAPI
from cubbyhole.core.entries import Failure, ResultMeta
from cubbyhole.core.errors import HTTPError
from cubbyhole.specs.openai import ChatCompletionRequest, ChatMessage, FunctionCall, ToolCall
from cubbyhole.specs.openai_chat import OpenAISpec

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


def body(**fields: Any) -> bytes:
    return json.dumps(
        {"model": "m", "messages": [{"role": "user", "content": "hi"}], **fields}
    ).encode()


def events(stream: bytes) -> list[Any]:
    blocks = stream.decode().split("\n\n")
    assert blocks.pop() == "", "the last event is closed by a blank line"
    return [
        block.removeprefix("data: ")
        if block == "data: [DONE]"
        else json.loads(block.removeprefix("data: "))
        for block in blocks
    ]


def streamed(spec: OpenAISpec, raw: bytes, outputs: list[list[Any]]) -> list[Any]:
    renderer = spec.open_stream(spec.read_request(raw))
    parts = [renderer.step(index, step) for index, steps in enumerate(outputs) for step in steps]
    return events(b"".join(parts) + renderer.finish())


def rendered(raw: bytes, outputs: list[list[Any]]) -> Any:
    spec = OpenAISpec()
    result = spec.render(spec.read_request(raw), outputs)
    assert result.status == 200
    assert bytes(result.meta) == b"", "application/json is the default"
    return json.loads(bytes(result.body))


def test_an_answer_has_litserves_keys_in_order() -> None:
    answer = rendered(body(), [["Hello", " world"]])
    assert list(answer) == ["id", "object", "created", "model", "choices", "usage"]
    assert answer["id"].startswith("chatcmpl-")
    assert len(answer["id"]) == len("chatcmpl-") + 6
    assert answer["object"] == "chat.completion"
    assert answer["model"] == "m"
    assert answer["choices"] == [
        {
            "index": 0,
            "message": {
                "role": "assistant",
                "content": "Hello world",
                "name": None,
                "tool_calls": None,
                "tool_call_id": None,
            },
            "finish_reason": "stop",
        }
    ]
    assert answer["usage"] == {"prompt_tokens": 0, "total_tokens": 0, "completion_tokens": 0}


def test_content_without_chunks_is_an_empty_text() -> None:
    assert rendered(body(), [[]])["choices"][0]["message"]["content"] == ""
    assert rendered(body(), [[None, "a", None]])["choices"][0]["message"]["content"] == "a"


def test_usage_is_summed_over_steps_and_choices() -> None:
    step = {"role": "assistant", "content": "x", "prompt_tokens": 1, "completion_tokens": 2}
    answer = rendered(body(n=2), [[step, step], [{**step, "total_tokens": 3}]])
    assert answer["usage"] == {"prompt_tokens": 3, "total_tokens": 3, "completion_tokens": 6}
    last = streamed(OpenAISpec(), body(n=2, stream=True), [[step, step], [step]])[-2]
    assert last["usage"] == {"prompt_tokens": 3, "total_tokens": 0, "completion_tokens": 6}


def test_every_chunk_of_a_stream_has_the_same_id_and_time() -> None:
    """Defect 18."""
    chunks = streamed(OpenAISpec(), body(stream=True), [["a", "b", "c"]])[:-1]
    assert len(chunks) == 4
    assert len({(chunk["id"], chunk["created"]) for chunk in chunks}) == 1


def test_a_chunk_has_litserves_keys_in_order() -> None:
    chunk, last, done = streamed(OpenAISpec(), body(stream=True), [["tok"]])
    assert list(chunk) == [
        "id",
        "object",
        "created",
        "model",
        "system_fingerprint",
        "choices",
        "usage",
    ]
    delta = {"name": None, "tool_calls": None, "tool_call_id": None}
    assert chunk["choices"] == [
        {
            "delta": {"role": "assistant", "content": "tok", **delta},
            "finish_reason": None,
            "index": 0,
            "logprobs": None,
        }
    ]
    assert chunk["usage"] is None
    assert last["choices"] == [
        {
            "delta": {"role": None, "content": None, **delta},
            "finish_reason": "stop",
            "index": 0,
            "logprobs": None,
        }
    ]
    assert last["usage"] == {"prompt_tokens": 0, "total_tokens": 0, "completion_tokens": 0}
    assert done == "[DONE]"


def test_a_stream_says_that_it_is_an_event_stream() -> None:
    spec = OpenAISpec()
    status, meta = spec.open_stream(spec.read_request(body(stream=True))).head
    assert status == 200
    assert msgspec.msgpack.decode(meta, type=ResultMeta).content_type == (
        "text/event-stream; charset=utf-8"
    )


def test_the_longer_choice_of_a_stream_is_not_cut() -> None:
    """Defect 20."""
    chunks = streamed(OpenAISpec(), body(stream=True, n=2), [["a"], ["b", "c", "d"]])
    texts = {0: "", 1: ""}
    for chunk in chunks[:-2]:
        for choice in chunk["choices"]:
            texts[choice["index"]] += choice["delta"]["content"]
    assert texts == {0: "a", 1: "bcd"}
    assert [choice["index"] for choice in chunks[-2]["choices"]] == [0, 1]


@pytest.mark.parametrize("stream", [False, True])
def test_tool_calls_end_with_their_own_reason(stream: bool) -> None:
    """Defect 21."""
    call = ToolCall(id="call_1", function=FunctionCall(name="f", arguments="{}"))
    step = ChatMessage(role="assistant", content="", tool_calls=[call])
    if stream:
        chunk, last, _ = streamed(OpenAISpec(), body(stream=True), [[step]])
        calls = chunk["choices"][0]["delta"]["tool_calls"]
        reason = last["choices"][0]["finish_reason"]
    else:
        choice = rendered(body(), [[step]])["choices"][0]
        calls, reason = choice["message"]["tool_calls"], choice["finish_reason"]
    assert calls == [
        {
            "index": 0,
            "id": "call_1",
            "type": "function",
            "function": {"name": "f", "arguments": "{}"},
        }
    ]
    assert reason == "tool_calls"


def test_two_calls_that_did_not_say_their_index_are_kept_apart() -> None:
    calls = [ToolCall(id=name, function=FunctionCall(name=name)) for name in ("a", "b")]
    step = ChatMessage(role="assistant", tool_calls=calls)
    chunk = streamed(OpenAISpec(), body(stream=True), [[step]])[0]
    assert [call["index"] for call in chunk["choices"][0]["delta"]["tool_calls"]] == [0, 1]


def test_fragments_of_a_call_are_put_together_when_not_streaming() -> None:
    def part(call_id: str | None, arguments: str) -> dict[str, Any]:
        function = {"name": "f", "arguments": arguments}
        return {"content": None, "tool_calls": [{"id": call_id, "function": function}]}

    steps = [part("call_1", '{"a"'), part(None, ": 1}")]
    calls = rendered(body(), [steps])["choices"][0]["message"]["tool_calls"]
    assert [(call["id"], call["function"]["arguments"]) for call in calls] == [
        ("call_1", '{"a": 1}')
    ]


def test_a_predict_may_say_why_it_ended() -> None:
    step = {"content": "cut", "finish_reason": "length"}
    assert rendered(body(), [[step]])["choices"][0]["finish_reason"] == "length"
    last = streamed(OpenAISpec(), body(stream=True), [[step]])[-2]
    assert last["choices"][0]["finish_reason"] == "length"


def test_include_usage_adds_a_chunk_without_choices() -> None:
    """As OpenAI documents it: the usage is in that chunk alone, so that clients that add do not count twice."""
    raw = body(stream=True, stream_options={"include_usage": True})
    chunks = streamed(OpenAISpec(), raw, [[{"content": "a", "prompt_tokens": 4}]])
    assert [chunk["usage"] for chunk in chunks[:-2]] == [None, None]
    assert chunks[-2]["choices"] == []
    assert chunks[-2]["usage"]["prompt_tokens"] == 4
    assert chunks[-1] == "[DONE]"


def test_a_failed_stream_ends_with_a_whole_error_event() -> None:
    """Defect 21."""
    spec = OpenAISpec()
    renderer = spec.open_stream(spec.read_request(body(stream=True)))
    error, done = events(renderer.fail(Failure("predict_failed")))
    assert error == {
        "error": {
            "message": "Internal server error",
            "type": "internal",
            "param": None,
            "code": "internal_error",
        }
    }
    assert done == "[DONE]"


@pytest.mark.parametrize("n", [0, -1, 129, "many"])
@pytest.mark.parametrize("stream", [False, True])
def test_n_out_of_range_is_refused(n: Any, stream: bool) -> None:
    """Defect 19: n=0 streamed for ever."""
    with pytest.raises(HTTPError) as caught:
        OpenAISpec().read_request(body(n=n, stream=stream))
    assert caught.value.status_code == 422
    assert caught.value.detail[0]["loc"] == ["body", "n"]


def test_n_null_is_one_choice() -> None:
    spec = OpenAISpec()
    request = spec.read_request(body(n=None))
    assert [choice.n for choice in spec.choices(request)] == [1]


def test_choices_are_independent_requests() -> None:
    spec = OpenAISpec()
    first, second = spec.choices(spec.read_request(body(n=2)))
    first.messages.append(ChatMessage(role="user", content="more"))
    assert (first.n, second.n) == (1, 1)
    assert len(second.messages) == 1


@pytest.mark.parametrize(
    "choice",
    [
        "auto",
        "none",
        "any",
        "required",
        None,
        {"type": "function", "function": {"name": "f"}},
        {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": []}},
    ],
)
def test_tool_choices_of_openais_clients_are_accepted(choice: Any) -> None:
    """Defect 21."""
    OpenAISpec().read_request(body(tool_choice=choice))


def test_a_function_needs_only_a_name() -> None:
    """Defect 21."""
    raw = body(tools=[{"type": "function", "function": {"name": "f", "description": None}}])
    tools = OpenAISpec().read_request(raw).tools
    assert tools is not None
    assert tools[0].function.description == ""
    assert tools[0].function.parameters == {"type": "object", "properties": {}}


def test_malformed_json_is_400_and_a_wrong_request_422_in_fastapis_shape() -> None:
    """Defect 13."""
    with pytest.raises(HTTPError) as caught:
        OpenAISpec().read_request(b'{"model": ')
    assert caught.value.status_code == 400
    with pytest.raises(HTTPError) as caught:
        OpenAISpec().read_request(memoryview(b'{"model": "m"}'))
    assert caught.value.status_code == 422
    assert caught.value.detail == [
        {
            "type": "missing",
            "loc": ["body", "messages"],
            "msg": "Field required",
            "input": {"model": "m"},
        }
    ]
    json.dumps(caught.value.detail)


def test_flac_is_refused_with_litserves_text() -> None:
    audio = {"type": "input_audio", "input_audio": {"data": "AA==", "format": "flac"}}
    with pytest.raises(HTTPError) as caught:
        OpenAISpec().read_request(body(messages=[{"role": "user", "content": [audio]}]))
    assert "Input should be 'wav' or 'mp3'" in [item["msg"] for item in caught.value.detail]


def test_content_parts_are_read_by_kind() -> None:
    parts = [
        {"type": "text", "text": "what?"},
        {"type": "image_url", "image_url": "http://x/y.png"},
        {"type": "image_url", "image_url": {"url": "data:,x", "detail": "high"}},
        {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}},
    ]
    request = OpenAISpec().read_request(body(messages=[{"role": "user", "content": parts}]))
    names = [type(part).__name__ for part in request.messages[0].content or []]
    assert names == ["TextContent", "ImageContent", "ImageContent", "AudioContent"]


def test_response_formats_are_read() -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}
    request = OpenAISpec().read_request(body(response_format=wanted))
    assert request.response_format is not None
    assert request.response_format.type == "json_schema"
    assert request.response_format.json_schema.schema_ == {"type": "object"}


def test_the_context_holds_all_but_the_messages() -> None:
    spec = OpenAISpec()
    context: dict[str, Any] = {}
    spec.populate_context(context, spec.read_request(body(temperature=0.25)))
    assert context["temperature"] == 0.25
    assert context["model"] == "m"
    assert "messages" not in context


@pytest.mark.parametrize(
    ("yielded", "message"),
    [
        ("a", {"role": "assistant", "content": "a"}),
        (None, {"role": "assistant", "content": None}),
        ({"content": "a"}, {"role": "assistant", "content": "a"}),
        ({"role": "tool", "content": "a"}, {"role": "tool", "content": "a"}),
        (["x", {"content": "a"}], {"role": "assistant", "content": "a"}),
    ],
)
def test_predict_may_yield_text_dicts_and_none(yielded: Any, message: Any) -> None:
    assert list(OpenAISpec().encode_response(iter([yielded]))) == [message]


def test_anything_else_is_a_500_that_says_what_came() -> None:
    with pytest.raises(HTTPError) as caught:
        list(OpenAISpec().encode_response(iter([{"role": "assistant"}])))
    assert caught.value.status_code == 500
    assert str(caught.value.detail).startswith(
        "Malformed output from LitAPI.predict: expected string or "
        "{'role': '...', 'content': '...'}, got '"
    )


def test_with_batching_each_step_has_an_item_for_each_request() -> None:
    spec = OpenAISpec()
    spec._max_batch_size = 2
    assert list(spec.encode_response(iter([["a", "b"]]))) == [
        [{"role": "assistant", "content": "a"}, {"role": "assistant", "content": "b"}]
    ]


async def test_an_asynchronous_predict_is_encoded_as_it_comes() -> None:
    async def tokens() -> AsyncIterator[str]:
        yield "a"

    spec = OpenAISpec()
    for encode in (spec.encode_response, spec.as_async().encode_response):
        assert [m async for m in encode(tokens())] == [{"role": "assistant", "content": "a"}]
    request = spec.read_request(body())
    assert await spec.as_async().decode_request(request) is request


class Streaming(LitAPI):
    def predict(self, x: Any) -> Iterator[str]:
        yield "x"


class Returning(LitAPI):
    def predict(self, x: Any) -> str:
        return "x"


class ReturningEncode(Streaming):
    def encode_response(self, output: Any) -> Any:
        return output


class AsyncStreaming(LitAPI):
    async def predict(self, x: Any) -> AsyncIterator[str]:
        yield "x"


class AsyncReturning(LitAPI):
    async def predict(self, x: Any) -> str:
        return "x"


class AsyncReturningEncode(AsyncStreaming):
    async def encode_response(self, output: Any) -> Any:
        return output


@pytest.mark.parametrize(
    ("kind", "enable_async", "text"),
    [
        (Returning, False, "predict is not a generator"),
        (ReturningEncode, False, "encode_response is not a generator"),
        (
            AsyncStreaming,
            False,
            "'predict' is defined as async/coroutine, but 'enable_async' is not set in LitAPI.",
        ),
        (AsyncReturning, True, "predict must be an async generator"),
        (
            AsyncReturningEncode,
            True,
            "encode_response is neither a generator nor an async generator",
        ),
    ],
)
def test_an_api_that_does_not_yield_is_refused(
    kind: type[LitAPI], enable_async: bool, text: str
) -> None:
    api = kind(spec=OpenAISpec(), enable_async=enable_async)
    with pytest.raises(ValueError, match=text):
        api.pre_setup()


def test_an_api_that_yields_is_accepted_without_a_word() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        api = Streaming(spec=OpenAISpec())
        api.pre_setup()
        AsyncStreaming(spec=OpenAISpec(), enable_async=True).pre_setup()
    assert api.stream is True
    assert api.api_path == "/v1/chat/completions"


def test_another_path_moves_the_spec_with_a_warning() -> None:
    api = Streaming(spec=OpenAISpec(), api_path="/chat")
    with pytest.warns(UserWarning, match="Custom API path detected: '/chat'.") as caught:
        api.pre_setup()
    assert "The OpenAI SDK only supports the default path '/v1/chat/completions'." in str(
        caught[0].message
    )
    assert api.api_path == "/chat"


def test_a_spec_travels_to_its_worker() -> None:
    spec = OpenAISpec()
    spec.add_endpoint("/v1/models", print, ["GET"])
    spec.setup(lambda: "a server that cannot be pickled")
    spec._max_batch_size = 4
    there = pickle.loads(pickle.dumps(spec))  # noqa: S301
    assert there.api_path == "/v1/chat/completions"
    assert there._max_batch_size == 4
    assert there.endpoints == []


def test_a_spec_that_serves_twice_has_its_endpoints_once() -> None:
    """Defect 39."""
    spec = OpenAISpec()
    for _ in range(2):
        spec.add_endpoint("/v1/models", print, ["GET"])
    assert len(spec.endpoints) == 1


def test_unknown_fields_are_ignored() -> None:
    request = OpenAISpec().read_request(body(seed=1, brand_new={"a": 1}))
    assert isinstance(request, ChatCompletionRequest)
