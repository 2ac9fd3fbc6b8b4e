# SPDX-License-Identifier: Apache-2.0
"""Section 1: the names that `import litserve as ls` gives, and the import paths that user code uses."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import pytest

import cubbyhole as ls

PATHS = {
    "api": "LitAPI",
    "server": "LitServer LIT_SERVER_API_KEY SHUTDOWN_API_KEY",
    "specs": (
        "OpenAISpec OpenAIEmbeddingSpec EmbeddingRequest EmbeddingResponse "
        "ChatCompletionRequest ChatCompletionResponse ChatCompletionChunk"
    ),
    "specs.base": "LitSpec",
    "specs.openai": (
        "OpenAISpec ChatCompletionRequest ChatCompletionResponse ChatCompletionChunk ChatMessage ChatMessageWithUsage "
        "ChoiceDelta TextContent ImageContent AudioContent Tool Function ToolCall FunctionCall UsageInfo"
    ),
    "specs.openai_embedding": (
        "EmbeddingRequest Embedding EmbeddingResponse UsageInfo OpenAIEmbeddingSpec"
    ),
    "callbacks": "Callback CallbackRunner EventTypes NoopCallback",
    "callbacks.defaults": "PredictionTimeLogger",
    "callbacks.defaults.metric_callback": "RequestTracker",
    "loggers": "Logger",
    "loops": (
        "LitLoop get_default_loop inference_worker Output SingleLoop BatchedLoop StreamingLoop BatchedStreamingLoop "
        "ContinuousBatchingLoop"
    ),
    "middlewares": "MaxSizeMiddleware RequestCountMiddleware",
    "mcp": "MCP extract_input_schema ToolEndpointType",
    "schema.image": "ImageInput ImageOutput",
    "utils": (
        "configure_logging set_log_level add_log_handler set_trace set_trace_if_debug is_package_installed "
        "add_ssl_context_from_env dump_exception call_after_stream azip LitAPIStatus LoopResponseType WorkerSetupStatus "
        "ResponseBufferItem PickleableHTTPException wrap_litserve_start"
    ),
    "docker_builder": "dockerize",
    "test_examples": (
        "SimpleLitAPI SimpleBatchedAPI SimpleTorchAPI SimpleStreamAPI TestAPI TestAPIWithCustomEncode "
        "TestAPIWithToolCalls TestAPIWithStructuredOutput OpenAIBatchContext"
    ),
    "test_examples.openai_spec_example": (
        "OpenAIWithUsage OpenAIWithUsageEncodeResponse OpenAIBatchingWithUsage"
    ),
    "test_examples.openai_embedding_spec_example": (
        "TestEmbedAPI TestEmbedBatchedAPI TestEmbedAPIWithUsage TestEmbedAPIWithYieldPredict "
        "TestEmbedAPIWithYieldEncodeResponse TestEmbedAPIWithNonDictOutput TestEmbedAPIWithMissingEmbeddings"
    ),
    "test_examples.simple_example": "SimpleLitAPI",
}


@pytest.mark.parametrize(("path", "names"), PATHS.items())
def test_user_codes_import_paths_hold_its_names(path: str, names: str) -> None:
    module = import_module(f"cubbyhole.{path}")
    missing = [name for name in names.split() if not hasattr(module, name)]
    assert missing == []


PUBLIC = [
    "AsyncClient",
    "Callback",
    "Client",
    "LitAPI",
    "LitServer",
    "LocalClient",
    "Logger",
    "OpenAIEmbeddingSpec",
    "OpenAISpec",
    "Request",
    "Response",
    "OIPSpec",
    "SharedDict",
    "set_trace",
    "set_trace_if_debug",
    "test_examples",
]


def test_the_public_names_are_these() -> None:
    """A name more or less is a decision; the clients, `OIPSpec` and `SharedDict` are ours, the others are LitServe's."""
    assert sorted(set(ls.__all__)) == sorted(PUBLIC)
    for name in [*PUBLIC, "configure_logging"]:
        assert getattr(ls, name) is not None
    for name in ("version", "author", "author_email", "license", "copyright", "homepage", "docs"):
        assert isinstance(getattr(ls, f"__{name}__"), str)


MODULES = "api callbacks connector constants loggers loops middlewares python_client server specs test_examples transport utils"


@pytest.mark.parametrize("name", MODULES.split())
def test_modules_are_attributes_right_after_the_import(name: str) -> None:
    code = f"import cubbyhole as ls; print(ls.{name}.__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"cubbyhole.{name}"


def test_a_worker_that_imports_the_package_and_a_spec_loads_no_web_stack() -> None:
    code = (
        "import sys, cubbyhole as ls; ls.LitAPI, ls.OpenAISpec, ls.OpenAIEmbeddingSpec, ls.Logger, ls.Callback; "
        "print([m for m in ('fastapi', 'starlette', 'uvicorn', 'typer', 'rich') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        _ = ls.nonsense
