# SPDX-License-Identifier: Apache-2.0
"""`cubbyhole demo`: arguments only; the demo itself is `cubbyhole.demo`."""

from __future__ import annotations

from typing import Annotated

import typer


def demo(
    port: Annotated[int, typer.Option(help="Port to listen on.", min=1024, max=65535)] = 8000,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    workers: Annotated[int, typer.Option(help="Processes that hold the model.", min=1)] = 1,
    channel: Annotated[
        str, typer.Option(help="How requests travel: shm, sockets, pipes, manager, zmq.")
    ] = "shm",
    once: Annotated[bool, typer.Option("--once", help="Read the samples and stop.")] = False,
) -> None:
    """Serve a model that reads text from images: try it on three samples, then on your own in the browser."""
    from rich.console import Console

    from cubbyhole.core.errors import CubbyholeError
    from cubbyhole.demo.show import missing, perform

    errors = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)
    lacking = missing()
    if lacking:
        errors.print(
            f"cubbyhole demo needs what is not installed ({', '.join(lacking)}): "
            "pip install 'cubbyhole[demo]', or in a clone: pip install '.[demo]'"
        )
        raise typer.Exit(1)
    try:
        code = perform(host=host, port=port, workers=workers, channel=channel, once=once)
    except (CubbyholeError, OSError, ValueError, RuntimeError) as error:
        cause = f" ({error.__cause__})" if error.__cause__ else ""
        errors.print(f"cubbyhole demo: {error}{cause}")
        raise typer.Exit(1) from error
    raise typer.Exit(code)
