# SPDX-License-Identifier: Apache-2.0
"""LitServe's ready-made APIs, for tests and first steps."""

from __future__ import annotations

from cubbyhole.test_examples.openai_spec_example import (
    OpenAIBatchContext,
    TestAPI,
    TestAPIWithCustomEncode,
    TestAPIWithStructuredOutput,
    TestAPIWithToolCalls,
)
from cubbyhole.test_examples.simple_example import (
    SimpleBatchedAPI,
    SimpleLitAPI,
    SimpleStreamAPI,
    SimpleTorchAPI,
)

__all__ = [
    "OpenAIBatchContext",
    "SimpleBatchedAPI",
    "SimpleLitAPI",
    "SimpleStreamAPI",
    "SimpleTorchAPI",
    "TestAPI",
    "TestAPIWithCustomEncode",
    "TestAPIWithStructuredOutput",
    "TestAPIWithToolCalls",
]
