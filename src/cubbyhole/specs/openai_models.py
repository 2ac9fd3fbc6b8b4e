# SPDX-License-Identifier: Apache-2.0
"""OpenAI's chat format on the wire, as pydantic models.

Names, fields and defaults are LitServe's. More is accepted where its own clients send more: `tool_choice` "required" or an
object, functions without description or parameters, `stream_options`, null for what has a default.

See:  specs/openai_chat.py, which reads and renders them
"""

from __future__ import annotations

import time
import uuid
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

MAX_CHOICES = 128  # OpenAI's own limit of `n`; without one, a single request can occupy all workers


def _text_or_empty(value: Any) -> Any:
    return "" if value is None else value


def _no_parameters(value: Any) -> Any:
    return {"type": "object", "properties": {}} if value is None else value


def completion_id() -> str:
    """Make the id of one answer."""
    return f"chatcmpl-{uuid.uuid4().hex[:6]}"


def unix_time_s() -> int:
    """Return the time that `created` shows."""
    return int(time.time())


class UsageInfo(BaseModel):
    """Tokens of one answer; addable."""

    prompt_tokens: int = 0
    total_tokens: int = 0
    completion_tokens: int = 0

    def __add__(self, other: UsageInfo) -> UsageInfo:
        return UsageInfo(
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            total_tokens=self.total_tokens + other.total_tokens,
            completion_tokens=self.completion_tokens + other.completion_tokens,
        )

    def __radd__(self, other: Any) -> UsageInfo:
        """So that `sum` works, which begins with 0."""
        return self if other == 0 else NotImplemented


class TextContent(BaseModel):
    """A part of a message that is text."""

    type: str
    text: str


class ImageContentURL(BaseModel):
    """Where an image is: a URL, or the image itself as a `data:` URL."""

    url: str
    detail: Literal["auto", "low", "high"] | None = "auto"


class ImageContent(BaseModel):
    """A part of a message that is an image."""

    type: str
    image_url: str | ImageContentURL


class InputAudio(BaseModel):
    """Sound, base64."""

    data: str
    format: Literal["wav", "mp3"]


class AudioContent(BaseModel):
    """A part of a message that is sound."""

    type: Literal["input_audio"]
    input_audio: InputAudio


class Function(BaseModel):
    """What a tool does. `description` is "" and `parameters` is an empty object schema where the client gave none."""

    name: str
    description: Annotated[str, BeforeValidator(_text_or_empty)] = ""
    parameters: Annotated[dict[str, Any], BeforeValidator(_no_parameters)] = Field(
        default_factory=lambda: {"type": "object", "properties": {}}
    )
    strict: bool | None = None


class Tool(BaseModel):
    """A function that the model may call."""

    type: Literal["function"]
    function: Function


class FunctionName(BaseModel):
    """Which function must be called."""

    name: str


class NamedToolChoice(BaseModel):
    """The client's demand that one function be called."""

    type: Literal["function"]
    function: FunctionName


ToolChoice = Literal["auto", "none", "any", "required"] | NamedToolChoice | dict[str, Any]


class FunctionCall(BaseModel):
    """A call: `arguments` is JSON as text, or a fragment of it in a stream."""

    name: str = ""
    arguments: str = ""


class ToolCall(BaseModel):
    """One call that the model wants made."""

    index: int = 0
    id: str | None = None
    type: str = "function"
    function: FunctionCall


class ResponseFormatText(BaseModel):
    """Plain text wanted."""

    type: Literal["text"]


class ResponseFormatJSONObject(BaseModel):
    """Some JSON object wanted."""

    type: Literal["json_object"]


class JSONSchema(BaseModel):
    """The schema that the answer should keep. The attribute is `schema_`, because pydantic has a method of that name."""

    model_config = ConfigDict(populate_by_name=True)

    name: str
    description: str | None = None
    schema_: dict[str, Any] | None = Field(default=None, alias="schema")
    strict: bool | None = False


class ResponseFormatJSONSchema(BaseModel):
    """JSON of a given schema wanted."""

    type: Literal["json_schema"]
    json_schema: JSONSchema


ResponseFormat = Annotated[
    ResponseFormatText | ResponseFormatJSONObject | ResponseFormatJSONSchema,
    Field(discriminator="type"),
]


class ChatMessage(BaseModel):
    """A message of a chat, in either direction."""

    role: str
    content: str | list[TextContent | ImageContent | AudioContent] | None = None
    name: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None


class ChatMessageWithUsage(ChatMessage):
    """A message that also says what it cost."""

    prompt_tokens: int = 0
    total_tokens: int = 0
    completion_tokens: int = 0


class ChoiceDelta(ChatMessage):
    """What a chunk adds to a message."""

    role: Literal["system", "user", "assistant", "tool"] | None = None  # type: ignore[assignment]
    content: str | None = None


class StreamOptions(BaseModel):
    """What a client wants of a stream; `include_usage`: a last chunk without choices that has the usage."""

    include_usage: bool | None = False


class ChatCompletionRequest(BaseModel):
    """What a client asks. Unknown fields are ignored, as the format grows."""

    model: str | None = ""
    messages: list[ChatMessage]
    temperature: float | None = 0.7
    top_p: float | None = 1.0
    n: int | None = Field(default=1, ge=1, le=MAX_CHOICES)
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    stop: str | list[str] | None = None
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    presence_penalty: float | None = 0.0
    frequency_penalty: float | None = 0.0
    user: str | None = None
    tools: list[Tool] | None = None
    tool_choice: ToolChoice | None = "auto"
    response_format: ResponseFormat | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None = None
    metadata: dict[str, str] | None = None


FinishReason = Literal["stop", "length", "tool_calls", "content_filter", "function_call"]


class ChatCompletionResponseChoice(BaseModel):
    """One of the answers."""

    index: int
    message: ChatMessage
    finish_reason: FinishReason | None = None


class ChatCompletionResponse(BaseModel):
    """The answer to a request without `stream`."""

    id: str = Field(default_factory=completion_id)
    object: str = "chat.completion"
    created: int = Field(default_factory=unix_time_s)
    model: str
    choices: list[ChatCompletionResponseChoice]
    usage: UsageInfo | None = None


class ChatCompletionStreamingChoice(BaseModel):
    """What a chunk adds to one of the answers."""

    delta: ChoiceDelta
    finish_reason: FinishReason | None = None
    index: int
    logprobs: dict[str, Any] | None = None


class ChatCompletionChunk(BaseModel):
    """One event of the answer to a request with `stream`."""

    id: str = Field(default_factory=completion_id)
    object: str = "chat.completion.chunk"
    created: int = Field(default_factory=unix_time_s)
    model: str
    system_fingerprint: str | None = None
    choices: list[ChatCompletionStreamingChoice]
    usage: UsageInfo | None = None
