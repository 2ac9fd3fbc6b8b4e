# SPDX-License-Identifier: Apache-2.0
"""Section 16: OpenAI chat, with OpenAI's own client. What the hooks do alone is in tests/unit/specs."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import openai
import pytest
import requests
from parity_apis import Chat, ChatAsync

import cubbyhole as ls
from cubbyhole.test_examples import (
    OpenAIBatchContext,
    TestAPI,
    TestAPIWithCustomEncode,
    TestAPIWithStructuredOutput,
    TestAPIWithToolCalls,
)
from cubbyhole.test_examples.openai_spec_example import (
    SUM,
    OpenAIBatchingWithUsage,
    OpenAIWithUsage,
    OpenAIWithUsageEncodeResponse,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from cubbyhole.testing.serving import Served

    Serve = Callable[[Callable[[], ls.LitServer]], Served]

ASK: Any = [{"role": "user", "content": "Tell me a joke."}]
GREETING = (
    "Hi! It's nice to meet you. Is there something I can help you with or would you like to chat? "
)


def one(api: type[ls.LitAPI], **options: Any) -> Callable[[], ls.LitServer]:
    return lambda: ls.LitServer(api(spec=ls.OpenAISpec(), **options))


plain = one(TestAPI)
encoded = one(TestAPIWithCustomEncode)
tools = one(TestAPIWithToolCalls)
structured = one(TestAPIWithStructuredOutput)
chat = one(Chat)
chat_async = one(ChatAsync, enable_async=True)
batched = one(OpenAIBatchContext, max_batch_size=2, batch_timeout=0.2)


def client_of(served: Served) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0, timeout=15)


@pytest.mark.parametrize(
    ("make", "text"),
    [(plain, "This is a generated output"), (encoded, "This is a custom encoded output")],
)
def test_a_chat_is_answered_whole_and_streamed(
    serve: Serve, make: Callable[[], ls.LitServer], text: str
) -> None:
    with client_of(serve(make)) as client:
        whole = client.chat.completions.create(model="lit", messages=ASK)
        assert whole.choices[0].message.content == text
        assert whole.choices[0].finish_reason == "stop"
        chunks = list(client.chat.completions.create(model="lit", messages=ASK, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == text
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert len({chunk.id for chunk in chunks}) == 1


def test_a_stream_is_an_event_stream(serve: Serve) -> None:
    body = {"model": "lit", "messages": ASK, "stream": True}
    answer = requests.post(f"{serve(plain).url}/v1/chat/completions", json=body, timeout=10)
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.text.endswith("data: [DONE]\n\n")


def test_tool_calls_reach_the_client(serve: Serve) -> None:
    offered: Any = [{"type": "function", "function": {"name": "function_1"}}]
    with client_of(serve(tools)) as client:
        whole = client.chat.completions.create(
            model="lit", messages=ASK, tools=offered, tool_choice="required"
        )
        with client.chat.completions.stream(model="lit", messages=ASK, tools=offered) as stream:
            streamed = stream.get_final_completion()
    for answer in (whole, streamed):
        choice = answer.choices[0]
        assert choice.finish_reason == "tool_calls"
        assert choice.message.tool_calls is not None
        call: Any = choice.message.tool_calls[0]
        assert call.id == "call_1"
        assert call.function.name == "function_1"
        assert call.function.arguments == '{"arg_1": "arg_1_value"}'


def test_structured_output_is_parsed_by_the_client(serve: Serve) -> None:
    from pydantic import BaseModel

    class Event(BaseModel):
        name: str
        date: str
        participants: list[str]

    with client_of(serve(structured)) as client:
        answer = client.chat.completions.parse(model="lit", messages=ASK, response_format=Event)
    assert answer.choices[0].message.parsed == Event(
        name="Science Fair", date="Friday", participants=["Alice", "Bob"]
    )


@pytest.mark.parametrize("api", [OpenAIWithUsage, OpenAIWithUsageEncodeResponse])
def test_usage_reaches_the_client(serve: Serve, api: type[ls.LitAPI]) -> None:
    with client_of(serve(one(api))) as client:
        whole = client.chat.completions.create(model="lit", messages=ASK)
        chunks = list(client.chat.completions.create(model="lit", messages=ASK, stream=True))
        apart = list(
            client.chat.completions.create(
                model="lit", messages=ASK, stream=True, stream_options={"include_usage": True}
            )
        )
    assert whole.choices[0].message.content == SUM
    for usage in (whole.usage, chunks[-1].usage, apart[-1].usage):
        assert usage is not None
        assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (25, 10, 35)
    assert apart[-1].choices == []
    assert [chunk.usage for chunk in apart[:-1]] == [None] * (len(apart) - 1)


def test_n_choices_are_n_runs(serve: Serve) -> None:
    with client_of(serve(chat)) as client:
        whole = client.chat.completions.create(model="lit", messages=ASK, n=3)
    assert [choice.index for choice in whole.choices] == [0, 1, 2]
    assert len({choice.message.content for choice in whole.choices}) == 3


@pytest.mark.parametrize("stream", [False, True])
def test_n_zero_is_refused(serve: Serve, stream: bool) -> None:
    """Defect 19: a stream of it never ended."""
    body = {"model": "lit", "messages": ASK, "n": 0, "stream": stream}
    answer = requests.post(f"{serve(chat).url}/v1/chat/completions", json=body, timeout=10)
    assert answer.status_code == 422


def test_the_request_reaches_predict_and_its_context(serve: Serve) -> None:
    parts: Any = [
        {"type": "text", "text": "echo"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
    ]
    with client_of(serve(chat)) as client:
        answer = client.chat.completions.create(
            model="lit", messages=[{"role": "user", "content": parts}], temperature=0.125
        )
    content = answer.choices[0].message.content
    assert content is not None
    assert "TextContent ImageContent 0.125" in content


@pytest.mark.parametrize("stream", [False, True])
def test_an_http_exception_is_the_answer(serve: Serve, stream: bool) -> None:
    messages: Any = [{"role": "user", "content": "http 429"}]
    with client_of(serve(chat)) as client, pytest.raises(openai.RateLimitError):
        client.chat.completions.create(model="lit", messages=messages, stream=stream)


def test_an_error_in_mid_stream_is_raised_by_the_client(serve: Serve) -> None:
    """Defect 21: the event lacked its end, and there was no [DONE]."""
    messages: Any = [{"role": "user", "content": "break"}]
    with client_of(serve(chat)) as client:
        stream = client.chat.completions.create(model="lit", messages=messages, stream=True)
        assert next(stream).choices[0].delta.content == "so far"
        with pytest.raises(openai.APIError, match="Internal server error"):
            next(stream)


def test_an_async_api_streams(serve: Serve) -> None:
    with client_of(serve(chat_async)) as client:
        whole = client.chat.completions.create(model="lit", messages=ASK)
        chunks = list(client.chat.completions.create(model="lit", messages=ASK, stream=True))
    assert whole.choices[0].message.content == "one two "
    assert [chunk.choices[0].delta.content for chunk in chunks] == ["one ", "two ", None]


def test_batched_chats_keep_apart(serve: Serve) -> None:
    with client_of(serve(batched)) as client, ThreadPoolExecutor(2) as pool:

        def ask(stream: bool) -> str:
            if not stream:
                answer = client.chat.completions.create(model="lit", messages=ASK)
                return answer.choices[0].message.content or ""
            chunks = client.chat.completions.create(model="lit", messages=ASK, stream=True)
            return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)

        assert list(pool.map(ask, [False, True])) == [GREETING, GREETING]


def test_batched_usage_reaches_each_client(serve: Serve) -> None:
    make = one(OpenAIBatchingWithUsage, max_batch_size=2, batch_timeout=0.1)
    with client_of(serve(make)) as client:
        answer = client.chat.completions.create(model="lit", messages=ASK)
    assert answer.choices[0].message.content == SUM
    assert answer.usage is not None
    assert answer.usage.total_tokens == 35


def test_options_is_200_and_get_is_405(serve: Serve) -> None:
    url = f"{serve(plain).url}/v1/chat/completions"
    answer = requests.options(url, timeout=10)
    assert (answer.status_code, answer.content) == (200, b"")
    assert requests.get(url, timeout=10).status_code == 405


def test_a_wrong_request_is_422_and_no_json_400(serve: Serve) -> None:
    url = f"{serve(plain).url}/v1/chat/completions"
    answer = requests.post(url, json={"model": "lit"}, timeout=10)
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["body", "messages"]
    assert requests.post(url, data="{", timeout=10).status_code == 400


def test_a_plain_spec_takes_the_fast_lane(serve: Serve) -> None:
    info = requests.get(f"{serve(plain).url}/info", timeout=10).json()["server"]
    assert info["lanes"] == {"/v1/chat/completions": "fast"}
    assert info["stream"] == {"/v1/chat/completions": True}
