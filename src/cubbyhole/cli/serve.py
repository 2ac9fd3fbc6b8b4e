# SPDX-License-Identifier: Apache-2.0
"""`cubbyhole serve`: find the server in a file or module and run it."""

from __future__ import annotations

import os
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


def serve(
    target: Annotated[
        str,
        typer.Argument(metavar="FILE_OR_MODULE[:NAME]", help="A .py file or a dotted module name."),
    ],
    port: Annotated[
        int, typer.Option(help="TCP port; 0 takes a free one.", min=0, max=65535)
    ] = 8000,
    host: Annotated[str, typer.Option(help="Address; 0.0.0.0 for all.")] = "127.0.0.1",
    workers: Annotated[
        int | None, typer.Option(help="Model processes per device (only for a LitAPI).", min=1)
    ] = None,
    fronts: Annotated[
        int | None,
        typer.Option(
            help="HTTP processes; by default one per worker, at most one per core.", min=1
        ),
    ] = None,
    channel: Annotated[
        str | None,
        typer.Option(
            help="How requests travel: shm, sockets, pipes, manager, zmq (only for a LitAPI)."
        ),
    ] = None,
    reload: Annotated[
        bool, typer.Option("--reload", help="Start again when a .py file changes.")
    ] = False,
    log_level: Annotated[
        str, typer.Option(help="critical, error, warning, info, debug or trace.")
    ] = "info",
    inspector: InspectorPort = None,
) -> None:
    """Serve the LitServer or LitAPI that a file or module has."""
    if reload:
        from cubbyhole.cli.reload import run_reloading

        raise typer.Exit(run_reloading(target))
    if inspector is not None:
        # By the environment: a server that is built already reads it as it is built.
        os.environ["CUBBYHOLE_INSPECTOR"] = str(inspector)
    options: dict[str, Any] = {"workers_per_device": workers, "channel": channel}
    chosen = {key: value for key, value in options.items() if value is not None}
    try:
        _load(target, chosen).run(
            host=host,
            port=port,
            num_api_servers=fronts,
            log_level=log_level,
            generate_client_file=False,
        )
    except (CubbyholeError, OSError, ValueError, RuntimeError) as error:
        if log_level in ("debug", "trace") or not isinstance(error, (CubbyholeError, OSError)):
            raise
        _say(error)
        raise typer.Exit(1) from error


def _load(target: str, options: dict[str, Any]) -> LitServer:
    from cubbyhole.cli.discovery import load, pick

    module, name = load(target)
    return pick(module, name, **options)


def _say(error: Exception) -> None:
    from rich.console import Console

    Console(stderr=True).print(f"[bold red]cubbyhole:[/] {error}", highlight=False, soft_wrap=True)


serve.__doc__ = f"{serve.__doc__}\n{EXAMPLES}"
