# SPDX-License-Identifier: Apache-2.0
"""`cubbyhole inspector`: the page that shows a running server, in a process of its own, from outside.

Flow:  arguments -> a socket -> inspector/main.py
Owns:  the socket, and the file of a Unix socket.
See:   docs/guide/inspector.md
"""

from __future__ import annotations

import contextlib
from pathlib import Path  # noqa: TC003  (typer looks at it)
from typing import Annotated

import typer

from cubbyhole.cli.entries import Server  # noqa: TC001  (the same)
from cubbyhole.core.errors import CubbyholeError


def inspector(
    server: Server = None,
    port: Annotated[
        int, typer.Option(help="TCP port of the page; 0 takes a free one.", min=0, max=65535)
    ] = 8001,
    host: Annotated[
        str, typer.Option(help="Address; beyond this machine's own only with a key.")
    ] = "127.0.0.1",
    socket: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="A Unix socket for this user only, instead of a port."),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(
            envvar="CUBBYHOLE_INSPECTOR_KEY",
            help="What viewers must give; better by the variable, as others see a command line.",
        ),
    ] = None,
    payloads: Annotated[
        bool, typer.Option("--payloads", help="Show what requests carry, too.")
    ] = False,
) -> None:
    """Show a running server in the browser: every request, live, with its time line."""
    from cubbyhole.inspector.main import bind_unix, run_inspector
    from cubbyhole.inspector.process import InspectorArguments
    from cubbyhole.seen.attached import attach
    from cubbyhole.seen.reach import check_key
    from cubbyhole.supervise import listening

    try:
        check_key(None if socket else host, key)
        attach(server).close()  # before the port: what is wrong with the server is said first
        sock = bind_unix(socket) if socket else listening.bind(host, port, 1)[0]
    except (CubbyholeError, OSError, ValueError) as error:
        typer.echo(f"cubbyhole: {error}", err=True)
        raise typer.Exit(1) from None
    shown = f"[{host}]" if ":" in host else host
    where = str(socket) if socket else f"http://{shown}:{sock.getsockname()[1]}"
    typer.echo(f"Inspector on {where} (Ctrl-C ends it)")
    try:
        run_inspector(
            InspectorArguments(
                pid=server,
                sockets=[sock],
                key=key,
                host=None if socket else host,
                payloads=payloads,
            )
        )
    except KeyboardInterrupt:
        pass
    finally:
        sock.close()
        if socket:
            with contextlib.suppress(FileNotFoundError):
                socket.unlink()
