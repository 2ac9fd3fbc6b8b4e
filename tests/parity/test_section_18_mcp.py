# SPDX-License-Identifier: Apache-2.0
"""Section 18: an MCP client over Streamable HTTP, against a running server."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import pytest
import requests
from parity_apis import Square, Typed

import cubbyhole as ls
import cubbyhole.server
from cubbyhole.mcp import MCP
from cubbyhole.testing.serving import running, serving

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cubbyhole.testing.serving import Served

    Serve = Callable[[Callable[[], ls.LitServer]], Served]


def tools() -> ls.LitServer:
    return ls.LitServer(
        [
            Typed(mcp=MCP(description="Doubles a price."), api_path="/v1/double"),
            Square(mcp=MCP(description="Squares a number.", name="square")),
            Square(api_path="/no_tool"),
        ]
    )


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_a_client_lists_and_calls_tools(serve: Serve) -> None:
    fastmcp = pytest.importorskip("fastmcp", reason="the client comes with the package fastmcp")
    async with fastmcp.Client(f"{serve(tools).url}/mcp/") as client:
        listed = {tool.name: tool for tool in await client.list_tools()}
        assert set(listed) == {"v1_double", "square"}
        assert listed["square"].description == "Squares a number."
        typed = await client.call_tool("v1_double", {"request": {"name": "a", "price": 2}})
        assert json.loads(typed.content[0].text) == {"name": "a", "total": 4.0}
        untyped = await client.call_tool("square", {"input": 4})
        assert json.loads(untyped.content[0].text) == {"output": 16}
        refused = await client.call_tool(
            "v1_double", {"request": {"name": "a"}}, raise_on_error=False
        )
        assert refused.is_error
        assert "Field required" in refused.content[0].text


def ask(url: str, method: str, parameters: Any = None, **headers: str) -> requests.Response:
    message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters or {}}
    return requests.post(url, json=message, headers=headers, timeout=10)


def test_messages_stand_alone(serve: Serve) -> None:
    """Defect 30: each front answers each message; no session is kept."""
    url = f"{serve(tools).url}/mcp"
    answer = ask(url, "tools/call", {"name": "square", "arguments": {"input": 3}})
    assert answer.history[0].status_code == 307
    assert answer.headers["content-type"] == "application/json"
    assert json.loads(answer.json()["result"]["content"][0]["text"]) == {"output": 9}


def test_tools_are_guarded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Defect 29: 401 on /predict, 200 through MCP."""
    monkeypatch.setattr(cubbyhole.server, "LIT_SERVER_API_KEY", "abcd")
    call = {"name": "predict", "arguments": {"input": 3}}
    with serving(ls.LitServer(Square(mcp=MCP(description="Squares.")))) as served:
        url = f"{served.url}/mcp/"
        assert ask(url, "tools/list").status_code == 401
        assert ask(url, "tools/call", call).status_code == 401
        answer = ask(url, "tools/call", call, **{"X-API-Key": "abcd"})
        assert json.loads(answer.json()["result"]["content"][0]["text"]) == {"output": 9}


def test_a_server_without_tools_has_no_mcp(serve: Serve) -> None:
    def without() -> ls.LitServer:
        return ls.LitServer(Square())

    assert ask(f"{serve(without).url}/mcp/", "tools/list").status_code == 404


SCRIPT = """
import os
import cubbyhole as ls
from cubbyhole.mcp import MCP

class Who(ls.LitAPI):
    def predict(self, x):
        return x

if __name__ == "__main__":
    server = ls.LitServer(Who(mcp=MCP(description="Says it again.")))

    @server.app.get("/pid")
    def pid():
        return os.getpid()

    server.run(port=0, num_api_servers=2)
"""


def test_all_fronts_answer(tmp_path: Path) -> None:
    """Defect 30: all but one HTTP process answered 500."""
    script = tmp_path / "server.py"
    script.write_text(SCRIPT)
    call = {"name": "predict", "arguments": {"a": 1}}
    with running([sys.executable, str(script)]) as served:
        pids = set()
        for _ in range(40):  # each on its own connection, so that both fronts get some
            answer = ask(f"{served.url}/mcp/", "tools/call", call)
            assert answer.json()["result"]["isError"] is False
            pids.add(requests.get(f"{served.url}/pid", timeout=10).json())
            if len(pids) == 2:
                break
    assert len(pids) == 2
