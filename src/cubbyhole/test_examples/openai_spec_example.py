# SPDX-License-Identifier: Apache-2.0
"""APIs for `OpenAISpec`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from cubbyhole.api.lit_api import LitAPI
from cubbyhole.specs.openai_models import (
    ChatMessage,
    ChatMessageWithUsage,
    FunctionCall,
    ToolCall,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

GREETING = (
    "Hi! It's nice to meet you. Is there something I can help you with or would you like to chat?"
)
STEP_S = 0.01
USAGE = {"prompt_tokens": 25, "completion_tokens": 10, "total_tokens": 35}
SUM = "10 + 6 is equal to 16."


class TestAPI(LitAPI):
    """Says one sentence."""

    __test__ = False  # not a test class, whatever pytest thinks of its name

    def setup(self, device: Any) -> None:
        """Load nothing."""
        del device
        self.model = None

    def predict(self, x: Any) -> Iterator[Any]:
        """Yield the sentence."""
        del x
        yield "This is a generated output"


class TestAPIWithCustomEncode(TestAPI):
    """Says it as a message of its own making."""

    def encode_response(self, output: Iterator[Any]) -> Iterator[Any]:
        """Put another sentence in its place."""
        for _ in output:
            yield ChatMessage(role="assistant", content="This is a custom encoded output")


class TestAPIWithToolCalls(TestAPI):
    """Wants a function called."""

    def encode_response(self, output: Iterator[Any]) -> Iterator[Any]:
        """Yield one call."""
        for _ in output:
            function = FunctionCall(name="function_1", arguments='{"arg_1": "arg_1_value"}')
            call = ToolCall(id="call_1", type="function", function=function)
            yield ChatMessage(role="assistant", content="", tool_calls=[call])


class TestAPIWithStructuredOutput(TestAPI):
    """Says JSON."""

    def encode_response(self, output: Iterator[Any]) -> Iterator[Any]:
        """Yield an event's data."""
        for _ in output:
            yield ChatMessage(
                role="assistant",
                content='{"name": "Science Fair", "date": "Friday", "participants": ["Alice", "Bob"]}',
            )


class OpenAIBatchContext(LitAPI):
    """Batched, a word at a time; predict changes each request's context, and encode_response sees it."""

    def setup(self, device: Any) -> None:
        """Load nothing."""
        del device
        self.model = None

    def batch(self, inputs: Any) -> Any:
        """Keep the list."""
        return inputs

    def predict(self, x: Any, context: Any) -> Iterator[list[str]]:
        """Yield a word for each request, one step at a time."""
        for item in context:
            item["temperature"] = 1.0
        for word in GREETING.split(" "):
            time.sleep(STEP_S)
            yield [f"{word} " for _ in x]

    def unbatch(self, output: Any) -> Any:
        """Keep the steps."""
        return output

    def encode_response(self, output_stream: Any, context: Any) -> Iterator[list[Any]]:
        """Make messages, after a look at the context."""
        for words in output_stream:
            for item in context:
                if item["temperature"] != 1.0:
                    raise AssertionError(
                        f"temperature is {item['temperature']}, but predict set 1.0"
                    )
            yield [{"role": "assistant", "content": word} for word in words]


class OpenAIWithUsage(LitAPI):
    """Says what it cost."""

    def setup(self, device: Any) -> None:
        """Load nothing."""
        del device
        self.model = None

    def predict(self, x: Any) -> Iterator[Any]:
        """Yield the sum and its usage."""
        del x
        yield {"role": "assistant", "content": SUM, **USAGE}


class OpenAIWithUsageEncodeResponse(LitAPI):
    """Says what it cost, in encode_response."""

    def setup(self, device: Any) -> None:
        """Load nothing."""
        del device
        self.model = None

    def predict(self, x: Any) -> Iterator[Any]:
        """Yield the sum."""
        del x
        yield SUM

    def encode_response(self, output: Iterator[Any]) -> Iterator[Any]:
        """Add the usage."""
        for text in output:
            yield ChatMessageWithUsage(
                role="assistant",
                content=text,
                prompt_tokens=USAGE["prompt_tokens"],
                completion_tokens=USAGE["completion_tokens"],
                total_tokens=USAGE["total_tokens"],
            )


class OpenAIBatchingWithUsage(OpenAIWithUsage):
    """Batched, and says what it cost."""

    def batch(self, inputs: Any) -> Any:
        """Keep the list."""
        return inputs

    def predict(self, x: Any) -> Iterator[Any]:
        """Yield one step."""
        yield [{"role": "assistant", "content": SUM, **USAGE} for _ in x]

    def unbatch(self, output: Any) -> Any:
        """Keep the steps."""
        return output
