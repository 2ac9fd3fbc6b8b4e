# SPDX-License-Identifier: Apache-2.0
"""LitAPIs as tools, without a network."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pytest
from fastapi import FastAPI, HTTPException, Request
from pydantic import BaseModel, Field

from cubbyhole.api.lit_api import LitAPI
from cubbyhole.front.tools import add_tools
from cubbyhole.specs.mcp import MCP, ToolServer
from cubbyhole.specs.schemas import extract_input_schema


class Wheel(BaseModel):
    size: int


class Car(BaseModel):
    name: str
    wheels: list[Wheel]


class Square(LitAPI):
    """Squares a number."""

    def decode_request(self, request: Car) -> Any:
        return request


class Untyped(LitAPI):
    def decode_request(self, request: Any) -> Any:
        return request["input"]


async def refuse(_path: str, _body: bytes, _headers: Any) -> tuple[int, bytes]:
    raise AssertionError("nothing should be called")


async def ask(server: ToolServer, method: str, number: Any = 1, **parameters: Any) -> Any:
    message = {"jsonrpc": "2.0", "id": number, "method": method, "params": parameters}
    status, body = await server.answer(json.dumps(message).encode(), [])
    assert status == 200
    return json.loads(body)


def test_a_tool_is_named_for_its_path_and_described_by_its_docstring() -> None:
    api = Square(mcp=MCP(), api_path="/v1/square")
    assert api.mcp.as_tool().name == "v1_square"
    assert api.mcp.as_tool().description == "Squares a number."
    assert api.mcp.as_tool().endpoint == "/v1/square"
    named = Square(mcp=MCP(name="/a/b", description="d")).mcp.as_tool()
    assert (named.name, named.description) == ("a_b", "d")


def test_a_tool_that_lacks_something_says_so() -> None:
    with pytest.raises(RuntimeError, match=r"MCP is not connected to a LitAPI\."):
        MCP().as_tool()
    with pytest.raises(ValueError, match="Name is required for MCP tool"):
        Square(mcp=MCP(name="/")).mcp.as_tool()
    with pytest.raises(ValueError, match="Description is required for MCP tool"):
        Untyped(mcp=MCP()).mcp.as_tool()


def test_a_typed_request_is_one_argument_with_the_models_schema() -> None:
    tool = Square(mcp=MCP()).mcp.as_tool()
    assert tool.wrapped == "request"
    assert tool.inputSchema["properties"] == {"request": {"$ref": "#/$defs/Car"}}
    assert set(tool.inputSchema["$defs"]) == {"Car", "Wheel"}
    assert "$defs" not in tool.inputSchema["$defs"]["Car"]


def test_an_untyped_request_takes_any_object() -> None:
    tool = Untyped(mcp=MCP(description="d")).mcp.as_tool()
    assert tool.wrapped is None
    assert tool.inputSchema["type"] == "object"


def test_a_lit_api_with_an_mcp_travels_to_its_worker() -> None:
    api = Square(mcp=MCP(description="d"))
    assert pickle.loads(pickle.dumps(api)).mcp.description == "d"  # noqa: S301


def test_a_functions_schema_has_litserves_shape() -> None:
    def tool(  # noqa: PLR0917
        self: Any,
        count: int,
        size: float,
        flag: bool,
        items: list[int],
        table: dict[str, int],
        anything: Any,
        maybe: str | None = None,
        bounded: int = Field(3, description="how many", ge=1, lt=9),
        *args: Any,
        **kwargs: Any,
    ) -> None: ...

    schema = extract_input_schema(tool)
    assert schema == {
        "properties": {
            "count": {"title": "Count", "type": "integer"},
            "size": {"title": "Size", "type": "number"},
            "flag": {"title": "Flag", "type": "boolean"},
            "items": {"title": "Items", "type": "array"},
            "table": {"title": "Table", "type": "object"},
            "anything": {"title": "Anything", "type": "string"},
            "maybe": {"title": "Maybe", "type": "string", "nullable": True, "default": None},
            "bounded": {
                "title": "Bounded",
                "type": "integer",
                "description": "how many",
                "default": 3,
                "minimum": 1,
                "exclusiveMaximum": 9,
            },
        },
        "required": ["count", "size", "flag", "items", "table", "anything"],
        "title": "toolArguments",
        "type": "object",
    }
    assert extract_input_schema(Wheel)["properties"] == {"wheel": {"$ref": "#/$defs/Wheel"}}


async def test_the_handshake_takes_the_clients_revision_if_known() -> None:
    server = ToolServer([], refuse)
    known = await ask(server, "initialize", protocolVersion="2025-03-26")
    assert known["result"]["protocolVersion"] == "2025-03-26"
    unknown = await ask(server, "initialize", protocolVersion="2099-01-01")
    assert unknown["result"]["protocolVersion"] == "2025-11-25"
    assert (await ask(server, "ping", number="a"))["id"] == "a"


async def test_messages_that_want_no_answer_get_none() -> None:
    server = ToolServer([], refuse)
    note = {"jsonrpc": "2.0", "method": "notifications/initialized"}
    assert await server.answer(json.dumps(note).encode(), []) == (202, b"")


async def test_errors_are_json_rpcs() -> None:
    server = ToolServer([], refuse)
    status, body = await server.answer(b"{", [])
    assert (status, json.loads(body)["error"]["code"]) == (400, -32700)
    status, body = await server.answer(b'{"a": 1}', [])
    assert (status, json.loads(body)["error"]["code"]) == (400, -32600)
    assert (await ask(server, "server/discover"))["error"]["code"] == -32601
    assert (await ask(server, "tools/call", name="x"))["error"]["code"] == -32602


def test_two_tools_of_one_name_are_refused() -> None:
    tool = Square(mcp=MCP()).mcp.as_tool()
    with pytest.raises(ValueError, match="different names"):
        ToolServer([tool, tool], refuse)


async def test_a_call_sends_the_wrapped_argument_and_shows_the_result() -> None:
    seen: list[Any] = []

    async def call(path: str, body: bytes, headers: Any) -> tuple[int, bytes]:
        seen.append((path, json.loads(body), headers))
        return 200, b'{"output":16}'

    server = ToolServer([Square(mcp=MCP()).mcp.as_tool()], call)
    answer = await ask(server, "tools/call", name="predict", arguments={"request": {"name": "a"}})
    assert seen == [("/predict", {"name": "a"}, [])]
    assert answer["result"] == {
        "content": [{"type": "text", "text": '{\n  "output": 16\n}'}],
        "isError": False,
    }


async def test_a_refused_call_is_the_tools_error_not_the_protocols() -> None:
    async def call(path: str, body: bytes, headers: Any) -> tuple[int, bytes]:
        return 422, b'{"detail":"no"}'

    server = ToolServer([Untyped(mcp=MCP(description="d")).mcp.as_tool()], call)
    result = (await ask(server, "tools/call", name="predict", arguments={}))["result"]
    assert result["isError"] is True
    assert result["content"][0]["text"].startswith("HTTP 422")


def test_a_tools_call_passes_the_guard_of_its_route() -> None:
    """Defect 29: it ran the endpoint without its dependencies."""
    from starlette.testclient import TestClient

    app = FastAPI()

    def guard(x_api_key: str) -> None:
        if x_api_key != "secret":
            raise HTTPException(401, "Not authenticated")

    @app.post("/predict")
    async def predict(request: Request) -> Any:
        guard(request.headers.get("x-api-key", ""))
        return {"output": (await request.json())["input"] ** 2}

    assert add_tools(app, [Untyped(mcp=MCP(description="d"))], [])
    assert not add_tools(FastAPI(), [Untyped()], [])
    message = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tools/call",
        "params": {"name": "predict", "arguments": {"input": 4}},
    }
    with TestClient(app) as client:
        refused = client.post("/mcp/", json=message).json()["result"]
        allowed = client.post("/mcp/", json=message, headers={"X-API-Key": "secret"}).json()
        assert client.post("/mcp", json=message, follow_redirects=False).status_code == 307
        assert client.get("/mcp/").status_code == 405
    assert refused["isError"] is True
    assert "Not authenticated" in refused["content"][0]["text"]
    assert json.loads(allowed["result"]["content"][0]["text"]) == {"output": 16}
