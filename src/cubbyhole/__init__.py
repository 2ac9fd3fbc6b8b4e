# SPDX-License-Identifier: Apache-2.0
"""Cubbyhole: model serving in which every request has its own entry in one dictionary in shared memory.

`import cubbyhole as ls` gives LitServe's names. Each is imported when it is first used (PEP 562), so that worker processes never load
the web stack, and the import itself takes a millisecond.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastapi import Request as Request
    from fastapi import Response as Response

    from cubbyhole.api.callbacks import Callback as Callback
    from cubbyhole.api.lit_api import LitAPI as LitAPI
    from cubbyhole.api.loggers import Logger as Logger
    from cubbyhole.client import AsyncClient as AsyncClient
    from cubbyhole.client import Client as Client
    from cubbyhole.client import LocalClient as LocalClient
    from cubbyhole.dictionary import SharedDict as SharedDict
    from cubbyhole.server import LitServer as LitServer
    from cubbyhole.specs.oip import OIPSpec as OIPSpec
    from cubbyhole.specs.openai_chat import OpenAISpec as OpenAISpec
    from cubbyhole.specs.openai_embeddings import OpenAIEmbeddingSpec as OpenAIEmbeddingSpec

__version__ = "0.1.0"
__author__ = "The Cubbyhole developers"
__author_email__ = ""
__license__ = "Apache-2.0"
__copyright__ = "The Cubbyhole developers"
__homepage__ = ""
__docs__ = (
    "Model serving in which every request has its own entry in one dictionary in shared memory."
)

# Request and Response are FastAPI's, from where FastAPI has them: a worker that makes a Response imports a fifth of the
# web stack (0.15 s of CPU instead of 0.7, in its first request).
_NAMES = {
    "AsyncClient": "cubbyhole.client",
    "Callback": "cubbyhole.api.callbacks",
    "Client": "cubbyhole.client",
    "LitAPI": "cubbyhole.api.lit_api",
    "LitServer": "cubbyhole.server",
    "LocalClient": "cubbyhole.client",
    "Logger": "cubbyhole.api.loggers",
    "OIPSpec": "cubbyhole.specs.oip",
    "OpenAIEmbeddingSpec": "cubbyhole.specs.openai_embeddings",
    "OpenAISpec": "cubbyhole.specs.openai_chat",
    "Request": "starlette.requests",
    "Response": "starlette.responses",
    "SharedDict": "cubbyhole.dictionary",
    "configure_logging": "cubbyhole.utils",
    "set_trace": "cubbyhole.utils",
    "set_trace_if_debug": "cubbyhole.utils",
}
_MODULES = frozenset((
    "api", "callbacks", "connector", "constants", "docker_builder", "loggers", "loops", "mcp", "middlewares", "python_client",
    "schema", "server", "specs", "test_examples", "testing", "transport", "utils",
))  # fmt: skip

__all__ = [
    "AsyncClient",
    "Callback",
    "Client",
    "LitAPI",
    "LitServer",
    "LocalClient",
    "Logger",
    "OIPSpec",
    "OpenAIEmbeddingSpec",
    "OpenAISpec",
    "Request",
    "Response",
    "SharedDict",
    "set_trace",
    "set_trace_if_debug",
    "test_examples",
]


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        value = getattr(import_module(_NAMES[name]), name)
        globals()[name] = value
        return value
    if name in _MODULES:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_NAMES, *_MODULES})
