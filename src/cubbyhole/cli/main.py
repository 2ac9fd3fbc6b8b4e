# SPDX-License-Identifier: Apache-2.0
"""`cubbyhole COMMAND`: the table of commands; each has its module, which imports what is heavy inside its function.

Flow:  console script -> main() -> the command's function
Owns:  the exit code: 0 done, 1 it failed, 2 wrong usage.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec
from typing import Annotated

import typer

# name -> "module:function"; a command whose module is not installed is not offered
COMMANDS = {
    "serve": "cubbyhole.cli.serve:serve",
    "doctor": "cubbyhole.cli.doctor:doctor",
    "demo": "cubbyhole.cli.demo:demo",
    "top": "cubbyhole.cli.top:top",
    "requests": "cubbyhole.cli.entries:requests",
    "inspect": "cubbyhole.cli.entries:inspect",
    "stats": "cubbyhole.cli.stats:stats",
    "cancel": "cubbyhole.cli.operate:cancel",
    "rerank": "cubbyhole.cli.operate:rerank",
    "drain": "cubbyhole.cli.operate:drain",
    "roll": "cubbyhole.cli.operate:roll",
    "scale": "cubbyhole.cli.operate:scale",
    "replay": "cubbyhole.cli.replay:replay",
    "inspector": "cubbyhole.cli.inspector:inspector",
    "dockerize": "cubbyhole.cli.dockerize:dockerize",
    "bench": "cubbyhole.cli.bench:bench",  # with commands of its own
}
NEED_ARGUMENTS = ("serve", "inspect", "cancel", "rerank", "scale", "replay")


def _show_version(value: bool) -> None:
    if value:
        from importlib.metadata import version

        print(f"cubbyhole {version('cubbyhole')}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Serve Python models over HTTP; every request has its own entry in one dictionary in shared memory."""


def build() -> typer.Typer:
    """Return the command line with all commands that are installed."""
    app = typer.Typer(
        name="cubbyhole",
        no_args_is_help=True,
        rich_markup_mode="rich",
        pretty_exceptions_show_locals=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    for name, path in COMMANDS.items():
        module, _, function = path.partition(":")
        if find_spec(module) is None:
            continue
        found = getattr(import_module(module), function)
        if isinstance(found, typer.Typer):
            app.add_typer(found, name=name)
        else:
            app.command(name, no_args_is_help=name in NEED_ARGUMENTS)(found)
    return app


def main() -> None:
    """Run the command line."""
    sys.exit(build()())
