# SPDX-License-Identifier: Apache-2.0
"""`cubbyhole replay ID`: send a request again that a server has kept.

Flow:  attach.py -> core/kept.py -> HTTP -> status, time and answer
Owns:  nothing.
See:   docs/guide/seeing.md
"""

from __future__ import annotations

import http.client
import time
from typing import TYPE_CHECKING, Annotated, NoReturn
from urllib.parse import quote, urlsplit

import typer

from cubbyhole.cli.entries import Server  # noqa: TC001  (typer reads it)
from cubbyhole.core.kept import find
from cubbyhole.seen.attached import NoServer, attach

if TYPE_CHECKING:
    from cubbyhole.core.kept import KeptRequest

TIMEOUT_S = 600.0
SHOWN_BYTES = 20_000


def replay(
    request: Annotated[
        str, typer.Argument(metavar="ID", help="The entry's id, or the client's X-Request-ID.")
    ],
    url: Annotated[
        str | None, typer.Option(help="Send it there instead, e.g. http://127.0.0.1:9000.")
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(help="X-API-Key to send; keys are not kept.", envvar="LIT_SERVER_API_KEY"),
    ] = None,
    server: Server = None,
) -> None:
    """Send a kept request again and show its answer. Needs LitServer(keep_requests="64MB").

    For example `cubbyhole replay order-17 --url http://127.0.0.1:9000`: to a server under a debugger.
    """
    try:
        with attach(server) as attached:
            if attached.kept is None:
                _fail(
                    f"Server {attached.description.pid} keeps no requests. Start it with LitServer(keep_requests="
                    '"64MB"), or cubbyhole serve --keep-requests 64MB.'
                )
            found = find(attached.kept.read(), request)
            address = url or f"http://{attached.description.address}"
    except NoServer as error:
        _fail(str(error))
    if found is None:
        _fail(
            f"Request {request} is not kept (any more). cubbyhole requests --past marks those that are."
        )
    try:
        _send(found, address.replace("://0.0.0.0", "://127.0.0.1"), key)
    except (OSError, http.client.HTTPException) as error:
        _fail(f"{address} gave no answer: {type(error).__name__}: {error}")


def _fail(text: str) -> NoReturn:
    typer.echo(f"cubbyhole: {text}", err=True)
    raise typer.Exit(1)


def _send(found: KeptRequest, address: str, key: str | None) -> None:
    parts = urlsplit(address)
    secure = parts.scheme == "https"
    kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
    connection = kind(parts.hostname or "127.0.0.1", parts.port, timeout=TIMEOUT_S)
    headers = {"X-Request-ID": f"replay-{found.id}"}
    if found.content_type:
        headers["Content-Type"] = found.content_type
    if key:
        headers["X-API-Key"] = key
    target = parts.path.rstrip("/") + quote(found.path, safe="/:@!$&'()*+,;=~-._")
    target += f"?{found.query}" if found.query else ""
    typer.echo(f"{found.method} {target}, {len(found.body)} bytes, to {parts.netloc}", err=True)
    began_s = time.monotonic()
    connection.request(found.method, target, found.body, headers)
    answer = connection.getresponse()
    body = answer.read()
    took_ms = (time.monotonic() - began_s) * 1e3
    connection.close()
    typer.echo(f"{answer.status} {answer.reason} in {took_ms:.1f} ms, {len(body)} bytes", err=True)
    text = body[:SHOWN_BYTES].decode(errors="backslashreplace")
    typer.echo(text + (" ..." if len(body) > SHOWN_BYTES else ""))
