# SPDX-License-Identifier: Apache-2.0
"""`cubbyhole serve`: find the server in a file or module and run it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cubbyhole.core.errors import CubbyholeError

if TYPE_CHECKING:
    from cubbyhole.server import LitServer

EXAMPLES = """
Examples:

  cubbyhole serve server.py                        the LitServer, or the only LitAPI, of that file

  cubbyhole serve server.py:MyAPI --workers 4      that LitAPI, in four model processes

  cubbyhole serve my_package.models:make_server    what that function returns

  cubbyhole serve server.py --host 0.0.0.0 --port 80 --reload
"""

InspectorPort = Annotated[
    int | None,
    typer.Option(
        metavar="PORT",
        help="Also serve a page on 127.0.0.1 that shows every request (docs/guide/inspector.md).",
        min=0,
        max=65535,
    ),
]


Target = Annotated[
    str,
    typer.Argument(metavar="FILE_OR_MODULE[:NAME]", help="A .py file or a dotted module name."),
]
Port = Annotated[int, typer.Option(help="TCP port; 0 takes a free one.", min=0, max=65535)]
Host = Annotated[str, typer.Option(help="Address; 0.0.0.0 for all.")]
Workers = Annotated[
    int | None, typer.Option(help="Model processes per device (only for a LitAPI).", min=1)
]
Fronts = Annotated[
    int | None,
    typer.Option(help="HTTP processes; by default one per worker, at most one per core.", min=1),
]
Channel = Annotated[
    str | None,
    typer.Option(
        help="How requests travel: shm, sockets, pipes, manager, zmq (only for a LitAPI)."
    ),
]
Reload = Annotated[bool, typer.Option("--reload", help="Start again when a .py file changes.")]
LogLevel = Annotated[str, typer.Option(help="critical, error, warning, info, debug or trace.")]
Log = Annotated[
    str, typer.Option(metavar="FORMAT", help="text, pretty, or json: one object a line.")
]
AccessLog = Annotated[bool, typer.Option("--access-log", help="Write a line for each request.")]
RequestIds = Annotated[
    bool, typer.Option("--request-ids", help="Send X-Request-ID with every answer.")
]
Otel = Annotated[bool, typer.Option("--otel", help="Send OpenTelemetry spans to where OTEL_* say.")]
OtelEndpoint = Annotated[
    str | None,
    typer.Option(metavar="URL", help="The same, to this collector (OTLP over HTTP)."),
]
OtelTraces = Annotated[
    str | None,
    typer.Option(metavar="N", help='Traces that a front begins each second (10), or "all".'),
]
PostMortem = Annotated[
    Path | None,
    typer.Option(metavar="PATH", help="Keep the last state of all entries in this file."),
]
KeepRequests = Annotated[
    str | None,
    typer.Option(metavar="SIZE", help='Keep the last requests for replay, e.g. "64MB".'),
]


def serve(
    target: Target,
    port: Port = 8000,
    host: Host = "127.0.0.1",
    workers: Workers = None,
    fronts: Fronts = None,
    channel: Channel = None,
    reload: Reload = False,
    log_level: LogLevel = "info",
    log: Log = "text",
    access_log: AccessLog = False,
    request_ids: RequestIds = False,
    otel: Otel = False,
    otel_endpoint: OtelEndpoint = None,
    otel_traces_per_s: OtelTraces = None,
    post_mortem: PostMortem = None,
    keep_requests: KeepRequests = None,
    inspector: InspectorPort = None,
) -> None:
    """Serve the LitServer or LitAPI that a file or module has."""
    if reload:
        from cubbyhole.cli.reload import run_reloading

        raise typer.Exit(run_reloading(target))
    _switch_on(
        {
            "OTEL": otel_endpoint or otel,
            "OTEL_TRACES_PER_S": otel_traces_per_s,
            "REQUEST_IDS": request_ids,
            "POST_MORTEM": post_mortem,
            "KEEP_REQUESTS": keep_requests,
            "INSPECTOR": None if inspector is None else str(inspector),
        }
    )
    options: dict[str, Any] = {"workers_per_device": workers, "channel": channel}
    chosen = {key: value for key, value in options.items() if value is not None}
    try:
        _load(target, chosen).run(
            host=host,
            port=port,
            num_api_servers=fronts,
            log_level=log_level,
            generate_client_file=False,
            log_format=log,
            access_log=access_log,
        )
    except (CubbyholeError, OSError, ValueError, RuntimeError) as error:
        if log_level in ("debug", "trace") or not isinstance(error, (CubbyholeError, OSError)):
            raise
        _say(error)
        raise typer.Exit(1) from error


def _switch_on(wanted: dict[str, Any]) -> None:
    """Set options of `LitServer` by the environment: a server that is built already reads them as it is built, when it is imported."""
    for name, value in wanted.items():
        if value:
            os.environ[f"CUBBYHOLE_{name}"] = "1" if value is True else str(value)


def _load(target: str, options: dict[str, Any]) -> LitServer:
    from cubbyhole.cli.discovery import load, pick

    module, name = load(target)
    return pick(module, name, **options)


def _say(error: Exception) -> None:
    from rich.console import Console

    Console(stderr=True).print(f"[bold red]cubbyhole:[/] {error}", highlight=False, soft_wrap=True)


serve.__doc__ = f"{serve.__doc__}\n{EXAMPLES}"
