# SPDX-License-Identifier: Apache-2.0
"""LitAPIs as tools of the Model Context Protocol (MCP).

Flow:  POST /mcp/ -> `ToolServer.answer` -> call(path, body, headers), the same way as POST <api_path> -> JSON-RPC answer
Owns:  nothing: each message stands alone, so any front may answer any of them.
See:   docs/decisions/0020-mcp-without-a-package.md, specs/schemas.py; front/tools.py adds the route and its guard
"""

from __future__ import annotations

import inspect
import logging
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from cubbyhole.specs.schemas import extract_input_schema, first_parameter, is_model

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from cubbyhole.api.lit_api import LitAPI

    Headers: TypeAlias = Sequence[tuple[bytes, bytes]]
    Call: TypeAlias = Callable[[str, bytes, Headers], Awaitable[tuple[int, bytes]]]

log = logging.getLogger(__name__)

# Those that begin with `initialize`; a client of the revisions after it asks for these when `server/discover` is unknown.
PROTOCOL_VERSIONS = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")

PARSE_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND, INVALID_PARAMS = -32700, -32600, -32601, -32602

ANY_OBJECT = {"type": "object", "properties": {}, "additionalProperties": True}


class ToolEndpointType(msgspec.Struct):
    """A LitAPI as a tool.

    Attributes:
        name, description: What the client's model sees.
        inputSchema: JSON schema of the arguments.
        endpoint: HTTP path that answers it.
        wrapped: The one argument that is the request body; None: the arguments together are the body.
    """

    name: str
    description: str
    inputSchema: dict[str, Any]  # noqa: N815  (MCP's name on the wire)
    endpoint: str
    wrapped: str | None = None


class MCP:
    """Offers a LitAPI as a tool: `LitAPI(mcp=MCP(description="..."))`.

    Args:
        description: What the tool does; default: the LitAPI's docstring.
        input_schema: JSON schema of the arguments, or a pydantic model; default: from `decode_request`.
        name: Default: the `api_path`, e.g. "predict" or "v1_classify".
    """

    def __init__(
        self,
        description: str | None = None,
        input_schema: dict[str, Any] | type | None = None,
        name: str | None = None,
    ) -> None:
        self.description = description
        self.input_schema = input_schema
        self.name = name
        self._lit_api: LitAPI | None = None

    def _connect(self, lit_api: LitAPI) -> None:
        self._lit_api = lit_api

    def __getstate__(self) -> dict[str, Any]:
        """Travel without the LitAPI, which holds this object; workers need no tools."""
        return {**self.__dict__, "_lit_api": None}

    def as_tool(self) -> ToolEndpointType:
        """Describe the tool.

        Raises:
            RuntimeError: it belongs to no LitAPI.
            ValueError: it has no name or no description.
        """
        lit_api = self._lit_api
        if lit_api is None:
            raise RuntimeError("MCP is not connected to a LitAPI.")
        name = self.name if self.name is not None else lit_api.api_path
        name = name.removeprefix("/").replace("/", "_")
        if not name:
            raise ValueError("Name is required for MCP tool")
        description = self.description or inspect.cleandoc(type(lit_api).__doc__ or "")
        if not description:
            raise ValueError("Description is required for MCP tool")
        schema, wrapped = self._schema(lit_api)
        return ToolEndpointType(name, description, schema, lit_api.api_path, wrapped)

    def _schema(self, lit_api: LitAPI) -> tuple[dict[str, Any], str | None]:
        """Return the arguments' schema, and the argument that stands for the whole body."""
        if isinstance(self.input_schema, dict):
            name, _ = first_parameter(lit_api.decode_request)
            return self.input_schema, name if name in self.input_schema.get(
                "properties", {}
            ) else None
        if self.input_schema is not None:
            schema = extract_input_schema(self.input_schema)
            return schema, next(iter(schema["properties"]))
        model = getattr(lit_api.spec, "request_model", None)
        if model is not None:
            return extract_input_schema(model, name="request"), "request"
        name, annotation = first_parameter(lit_api.decode_request)
        if is_model(annotation):
            return extract_input_schema(annotation, name=name), name
        return ANY_OBJECT, None


class ToolServer:
    """Answers MCP's messages over Streamable HTTP, without sessions and without event streams.

    Args:
        tools: What is offered.
        call: Runs a request as if it had come to its path: (path, JSON body, headers) -> (status, body).
        version: Told to clients.

    Raises:
        ValueError: two tools have the same name.
    """

    def __init__(self, tools: Sequence[ToolEndpointType], call: Call, version: str = "") -> None:
        self._tools = {tool.name: tool for tool in tools}
        if len(self._tools) != len(tools):
            names = [tool.name for tool in tools]
            raise ValueError(f"MCP tools must have different names, but they are {names}.")
        self._call = call
        self._version = version
        self._methods: dict[str, Callable[[Any], dict[str, Any]]] = {
            "initialize": self._initialize,
            "ping": lambda _: {},
            "tools/list": self._list,
        }

    async def answer(self, body: bytes, headers: Headers) -> tuple[int, bytes]:
        """Answer one POST.

        Args:
            body: One JSON-RPC message, or a list of them.
            headers: The request's; they go with a tool's call, so that it is authorised like any other request.

        Returns:
            HTTP status and JSON; 202 and nothing for what needs no answer.
        """
        try:
            message = msgspec.json.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            return 400, _encode(_error(None, PARSE_ERROR, f"Parse error: {error}"))
        if isinstance(message, list):  # MCP 2025-03-26 had batches
            answers = [await self._one(item, headers) for item in message]
            wanted = [item for item in answers if item is not None]
            return (200, _encode(wanted)) if wanted else (202, b"")
        answer = await self._one(message, headers)
        if answer is None:
            return 202, b""
        is_invalid = "error" in answer and answer["error"]["code"] == INVALID_REQUEST
        return (400 if is_invalid else 200), _encode(answer)

    async def _one(self, message: Any, headers: Headers) -> dict[str, Any] | None:
        if not isinstance(message, dict) or message.get("jsonrpc") != "2.0":
            return _error(None, INVALID_REQUEST, "Invalid Request: not a JSON-RPC 2.0 message")
        if (
            "id" not in message or "method" not in message
        ):  # a notification, or an answer to nothing that we asked
            return None
        number, method = message["id"], message["method"]
        parameters = message.get("params") or {}
        if method == "tools/call":
            return await self._run(number, parameters, headers)
        reply = self._methods.get(method)
        if reply is None:
            return _error(number, METHOD_NOT_FOUND, f"Method not found: {method}")
        return {"jsonrpc": "2.0", "id": number, "result": reply(parameters)}

    def _initialize(self, parameters: Any) -> dict[str, Any]:
        wanted = parameters.get("protocolVersion")
        return {
            "protocolVersion": wanted if wanted in PROTOCOL_VERSIONS else PROTOCOL_VERSIONS[-1],
            "capabilities": {"tools": {"listChanged": False}},
            "serverInfo": {"name": "cubbyhole", "version": self._version},
        }

    def _list(self, _parameters: Any) -> dict[str, Any]:
        return {
            "tools": [
                {
                    "name": tool.name,
                    "description": tool.description,
                    "inputSchema": {"type": "object", **tool.inputSchema},
                }
                for tool in self._tools.values()
            ]
        }

    async def _run(self, number: Any, parameters: Any, headers: Headers) -> dict[str, Any]:
        tool = self._tools.get(parameters.get("name"))
        if tool is None:
            return _error(number, INVALID_PARAMS, f"Unknown tool: {parameters.get('name')}")
        arguments = parameters.get("arguments") or {}
        if tool.wrapped is not None and set(arguments) == {tool.wrapped}:
            arguments = arguments[tool.wrapped]
        status, body = await self._call(tool.endpoint, _encode(arguments), headers)
        failed = status >= 400
        text = _as_text(body)
        content = [{"type": "text", "text": f"HTTP {status}: {text}" if failed else text}]
        return {
            "jsonrpc": "2.0",
            "id": number,
            "result": {"content": content, "isError": failed},
        }


def _as_text(body: bytes) -> str:
    """Show a result to a model: text as it is, other JSON indented, and what is no JSON as it came."""
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return body.decode(errors="replace")
    return (
        value if isinstance(value, str) else msgspec.json.format(_encode(value), indent=2).decode()
    )


def _error(number: Any, code: int, text: str) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": number, "error": {"code": code, "message": text}}


def _encode(value: Any) -> bytes:
    return msgspec.json.encode(value)
