# SPDX-License-Identifier: Apache-2.0
"""`/mcp/`: the APIs that have an MCP, as tools.

A tool's call is run as a request to the app itself, with the client's headers. So it passes the same guards, limits and
middlewares as a request to the API's own path, and no front needs to know more than its app.

Flow:  POST /mcp/ -> guard -> `ToolServer.answer` -> `call_app` -> the API's route
Owns:  nothing.
See:   specs/mcp.py
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import Request, Response

from cubbyhole.specs.mcp import ToolServer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastapi import FastAPI

MCP_PATH = "/mcp/"

_OF_THE_BODY = frozenset(
    (
        b"content-length",
        b"content-type",
        b"content-encoding",
        b"transfer-encoding",
        b"accept-encoding",
    )
)


def add_tools(app: FastAPI, lit_apis: Sequence[Any], dependencies: Sequence[Any]) -> bool:
    """Add the route, if any API has an MCP.

    Args:
        app: `server.app`.
        lit_apis: The server's.
        dependencies: Guard of the route itself, so that tools are not even listed for strangers.

    Returns:
        Whether there are tools.

    Raises:
        ValueError: a tool has no name or no description, or two have the same name.
    """
    tools = [lit_api.mcp.as_tool() for lit_api in lit_apis if lit_api.mcp is not None]
    if not tools:
        return False

    async def serve_tools(request: Request) -> Response:
        async def call(path: str, body: bytes, headers: Any) -> tuple[int, bytes]:
            return await call_app(app, request.scope, request.receive, path, body, headers)

        server = ToolServer(tools, call, _version())
        status, answer = await server.answer(await request.body(), request.scope["headers"])
        return Response(answer, status, media_type="application/json" if answer else None)

    app.add_api_route(
        MCP_PATH,
        serve_tools,
        methods=["POST"],
        dependencies=list(dependencies),
        include_in_schema=False,
        response_model=None,
    )
    return True


async def call_app(
    app: Any,
    scope: Any,
    receive: Any,
    path: str,
    body: bytes,
    headers: Sequence[tuple[bytes, bytes]],
) -> tuple[int, bytes]:
    """POST to a path of an ASGI app, within this process and on behalf of an open request.

    Args:
        app: The ASGI app.
        scope: Of the open request: its client, scheme and server are taken over.
        receive: Of the open request, its body being read: tells when the client leaves.
        path: Of the app.
        body: JSON.
        headers: The client's; those about its own body are left out.

    Returns:
        Status and body of the answer.
    """
    kept = [pair for pair in headers if pair[0] not in _OF_THE_BODY]
    inner = {
        **{key: value for key, value in scope.items() if key in ("client", "scheme", "server")},
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [
            *kept,
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
        ],
        "state": dict(scope.get("state", {})),
    }
    unread: bytes | None = body
    status = 500
    parts: list[bytes] = []

    async def receive_inner() -> Any:
        nonlocal unread
        if unread is None:
            return await receive()
        message = {"type": "http.request", "body": unread, "more_body": False}
        unread = None
        return message

    async def send_inner(message: Any) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
        elif message["type"] == "http.response.body":
            parts.append(bytes(message.get("body", b"")))

    await app(inner, receive_inner, send_inner)
    return status, b"".join(parts)


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("cubbyhole")
    except PackageNotFoundError:  # run from a source tree
        return "0"
