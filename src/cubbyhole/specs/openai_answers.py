# SPDX-License-Identifier: Apache-2.0
"""What a LitAPI yielded, as OpenAI's answers: one JSON document, or server-sent events.

Flow:  encode_response -> `read_step` -> `complete` | `ChatStream` -> bytes
Owns:  `ChatStream` holds one streamed answer: its id, what it cost so far, and how each choice will end.
See:   specs/openai_chat.py (who calls), specs/openai_models.py (the same shapes as models)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from cubbyhole.core.entries import Result, ResultMeta
from cubbyhole.core.errors import HTTPError
from cubbyhole.specs.base import as_plain
from cubbyhole.specs.openai_models import completion_id, unix_time_s

if TYPE_CHECKING:
    from cubbyhole.core.entries import Failure
    from cubbyhole.specs.openai_models import ChatCompletionRequest

EVENT_STREAM = msgspec.msgpack.encode(ResultMeta(content_type="text/event-stream; charset=utf-8"))
DONE = b"data: [DONE]\n\n"
USAGE_KEYS = ("prompt_tokens", "total_tokens", "completion_tokens")

_json = msgspec.json.Encoder(enc_hook=as_plain)


class Step(msgspec.Struct):
    """One thing that a LitAPI yielded, taken apart."""

    role: str = "assistant"
    content: Any = None
    name: str | None = None
    tool_calls: list[dict[str, Any]] | None = None
    tool_call_id: str | None = None
    finish_reason: str | None = None
    usage: tuple[int, int, int] = (0, 0, 0)  # in the order of USAGE_KEYS


def as_message(output: Any) -> Any:
    """Turn what predict yields into a message: what the default `encode_response` does.

    Raises:
        HTTPError: 500 for what is no message.
    """
    if output is None or isinstance(output, str):
        return {"role": "assistant", "content": output}
    if isinstance(output, dict) and "content" in output:
        return output if "role" in output else {"role": "assistant", **output}
    if isinstance(output, list) and output:
        return as_message(output[-1])
    if hasattr(output, "role") and hasattr(output, "content"):
        return output
    raise HTTPError(
        500,
        "Malformed output from LitAPI.predict: expected string or "
        f"{{'role': '...', 'content': '...'}}, got '{output}'.",
    )


def read_step(encoded: Any) -> Step:
    """Take apart what `encode_response` yielded: a message as a dict or as a model, or plain text."""
    message = as_message(encoded)
    if not isinstance(message, dict):
        message = message.model_dump() if hasattr(message, "model_dump") else vars(message)
    calls = message.get("tool_calls")
    return Step(
        role=message.get("role") or "assistant",
        content=_as_text(message.get("content")),
        name=message.get("name"),
        tool_calls=_as_tool_calls(calls) if calls else None,
        tool_call_id=message.get("tool_call_id"),
        finish_reason=message.get("finish_reason"),
        usage=(
            message.get("prompt_tokens") or 0,
            message.get("total_tokens") or 0,
            message.get("completion_tokens") or 0,
        ),
    )


def _as_text(content: Any) -> Any:
    if not isinstance(content, list):
        return content
    plain = [as_plain(part) if not isinstance(part, dict) else part for part in content]
    return "".join(part.get("text") or "" for part in plain)


def _as_tool_calls(calls: list[Any]) -> list[dict[str, Any]]:
    plain = [call if isinstance(call, dict) else as_plain(call) for call in calls]
    # Clients put the calls of a stream together by index, so calls that all say 0 (the default) would become one.
    numbered = len({call.get("index") or 0 for call in plain}) == len(plain)
    return [
        {
            "index": (call.get("index") or 0) if numbered else position,
            "id": call.get("id"),
            "type": call.get("type") or "function",
            "function": call.get("function"),
        }
        for position, call in enumerate(plain)
    ]


def _usage(totals: tuple[int, int, int] | list[int]) -> dict[str, int]:
    return dict(zip(USAGE_KEYS, totals, strict=True))


def complete(request: ChatCompletionRequest, outputs: list[list[Any]]) -> Result:
    """Make the answer to a request without `stream` from `outputs[choice][step]`.

    Content is joined over the steps; usage is summed over all steps of all choices.
    """
    totals = [0, 0, 0]
    choices = []
    for index, steps in enumerate(outputs):
        texts: list[str] = []
        calls: list[dict[str, Any]] | None = None
        reason = None
        for step in map(read_step, steps):
            if step.content is not None:
                texts.append(str(step.content))
            if step.tool_calls:
                calls = _joined(calls, step.tool_calls)
            reason = step.finish_reason or reason
            totals = [total + more for total, more in zip(totals, step.usage, strict=True)]
        message = {
            "role": "assistant",
            "content": "".join(texts),
            "name": None,
            "tool_calls": calls,
            "tool_call_id": None,
        }
        finish_reason = reason or ("tool_calls" if calls else "stop")
        choices.append({"index": index, "message": message, "finish_reason": finish_reason})
    answer = {
        "id": completion_id(),
        "object": "chat.completion",
        "created": unix_time_s(),
        "model": request.model,
        "choices": choices,
        "usage": _usage(totals),
    }
    return Result(body=_json.encode(answer))


def _joined(held: list[dict[str, Any]] | None, new: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Put calls together as clients do: by index; a call without an id continues the arguments of the one it meets."""
    by_index = {call["index"]: call for call in held or ()}
    for call in new:
        old = by_index.get(call["index"])
        if old is not None and call["id"] is None:
            function = dict(old["function"])
            more = (call["function"] or {}).get("arguments") or ""
            function["arguments"] = (function.get("arguments") or "") + more
            by_index[call["index"]] = {**old, "function": function}
        else:
            by_index[call["index"]] = call
    return list(by_index.values())


class ChatStream:
    """One streamed answer. Every chunk has the same id; each chunk carries one choice, so that none waits for another."""

    head = (200, EVENT_STREAM)

    def __init__(self, request: ChatCompletionRequest, choices: int) -> None:
        self._reasons: list[str | None] = [None] * choices
        self._called = [False] * choices
        self._totals = [0, 0, 0]
        options = request.stream_options
        self._usage_apart = bool(options and options.include_usage)
        self._before = (
            b'data: {"id":"%b","object":"chat.completion.chunk","created":%d,"model":%b,'
            b'"system_fingerprint":null,"choices":['
            % (completion_id().encode(), unix_time_s(), _json.encode(request.model))
        )

    def step(self, index: int, encoded: Any) -> bytes:
        """Render one yielded message of choice `index`."""
        step = read_step(encoded)
        if step.usage != (0, 0, 0):
            self._totals = [a + b for a, b in zip(self._totals, step.usage, strict=True)]
        if step.finish_reason is not None:
            self._reasons[index] = step.finish_reason
        if step.tool_calls:
            self._called[index] = True
        delta = {
            "role": step.role,
            "content": step.content,
            "name": step.name,
            "tool_calls": step.tool_calls,
            "tool_call_id": step.tool_call_id,
        }
        return b"%b%b%b" % (
            self._before,
            b'{"delta":%b,"finish_reason":null,"index":%d,"logprobs":null}'
            % (_json.encode(delta), index),
            b'],"usage":null}\n\n',
        )

    def finish(self) -> bytes:
        """Say how each choice ended and what all cost, then `[DONE]`.

        The usage is in that last chunk, as LitServe has it; a client that asked for it with `stream_options` gets it as
        OpenAI documents it: in one more chunk, without choices, and nowhere else.
        """
        usage = _json.encode(_usage(self._totals))
        ends = [self._end(index) for index in range(len(self._reasons))]
        if self._usage_apart:
            return b'%b%b],"usage":null}\n\n%b],"usage":%b}\n\n%b' % (
                self._before,
                b",".join(ends),
                self._before,
                usage,
                DONE,
            )
        return b'%b%b],"usage":%b}\n\n%b' % (self._before, b",".join(ends), usage, DONE)

    def _end(self, index: int) -> bytes:
        reason = self._reasons[index] or ("tool_calls" if self._called[index] else "stop")
        return (
            b'{"delta":{"role":null,"content":null,"name":null,"tool_calls":null,"tool_call_id":null},'
            b'"finish_reason":"%b","index":%d,"logprobs":null}' % (reason.encode(), index)
        )

    def fail(self, failure: Failure) -> bytes:
        """Render an error event, with which OpenAI's SDK raises `APIError`, and the end."""
        error = {
            "message": failure.detail or "Internal server error",
            "type": "internal",
            "param": None,
            "code": "internal_error",
        }
        return b"data: %b\n\n%b" % (_json.encode({"error": error}), DONE)
