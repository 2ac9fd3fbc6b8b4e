# SPDX-License-Identifier: Apache-2.0
"""`cubbyhole dockerize SERVER_FILE`."""

from __future__ import annotations

from typing import Annotated

import typer


def dockerize(
    server_filename: Annotated[
        str, typer.Argument(metavar="SERVER_FILE", help="Script that runs the server.")
    ],
    port: Annotated[int, typer.Option(help="Port that the server listens on.")] = 8000,
    gpu: Annotated[bool, typer.Option("--gpu", help="An image with CUDA.")] = False,
) -> None:
    """Write a Dockerfile for a server's script into the current folder."""
    from cubbyhole import docker_builder

    try:
        docker_builder.dockerize(server_filename, port, gpu)
    except FileNotFoundError as error:
        print(error)
        raise typer.Exit(1) from error
