# SPDX-License-Identifier: Apache-2.0
"""`cubbyhole bench channels`: arguments, progress and tables; what is measured is `cubbyhole.measuring.channels`.

Flow:  main.py -> **channels** -> measuring.channels -> tables on stdout, JSON in a file
Owns:  nothing.
"""

from __future__ import annotations

import datetime as dt
import json
import shlex
import sys
from inspect import cleandoc
from pathlib import Path  # noqa: TC003  (typer reads the annotation)
from typing import Annotated, Any

import typer

from cubbyhole.measuring.channels import KINDS, USUAL, WORKLOADS, loadable, measure, report
from cubbyhole.measuring.jobs import Place
from cubbyhole.measuring.machine import describe_machine
from cubbyhole.measuring.tables import summarize

bench = typer.Typer(no_args_is_help=True, help="Measure on this machine what Cubbyhole states.")
_LOADS = "\n\n".join(f"  {name:<23}{title}" for name, (title, _) in WORKLOADS.items())


@bench.callback()
def _group() -> None:
    """Keep `channels` a command of its own while it is the only one."""


@bench.command()
def channels(
    only: Annotated[
        str, typer.Option(metavar="A,B", help="Channels, with commas between them.")
    ] = ",".join(KINDS),
    workloads: Annotated[
        str, typer.Option(metavar="A,B", help="Loads, or `all`; their names are below.")
    ] = ",".join(USUAL),
    seconds: Annotated[float, typer.Option(help="Of each run.", min=0.1, max=600.0)] = 1.0,
    repeat: Annotated[
        int, typer.Option(help="Runs of each; the median is shown.", min=1, max=100)
    ] = 1,
    to_json: Annotated[
        Path | None,
        typer.Option("--json", metavar="FILE", help="Also write each run, and the machine, there."),
    ] = None,
) -> None:
    """Measure what carries requests between processes: each channel in turn, every answer checked.

    A run is an asyncio front with so many requests in flight and one worker process that echoes them. CPU is that of one
    round trip, over all processes, then by process. Without options it takes a minute or two.
    """
    kinds = _chosen(only, KINDS, "channel")
    names = list(WORKLOADS) if workloads == "all" else _chosen(workloads, WORKLOADS, "load")
    if to_json is not None and not to_json.absolute().parent.is_dir():
        raise typer.BadParameter(f"There is no folder {to_json.absolute().parent}.")
    result = _measured(kinds, names, seconds, repeat)
    print("\n\n".join(report(result)))
    if to_json is not None:
        to_json.write_text(json.dumps(result, indent=1) + "\n")
        print(f"\n{to_json} written.", file=sys.stderr)
    if any(run["failures"] for run in result["runs"]):
        raise typer.Exit(1)


channels.__doc__ = f"{cleandoc(channels.__doc__ or '')}\n\nLoads:\n\n{_LOADS}\n"


def _chosen(text: str, known: Any, what: str) -> list[str]:
    names = [name for name in text.split(",") if name]
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise typer.BadParameter(
            f"There is no {what} {', '.join(unknown) or 'in an empty list'}. There are: {', '.join(known)}."
        )
    return names


def _measured(kinds: list[str], names: list[str], seconds: float, repeat: int) -> dict[str, Any]:
    from importlib.metadata import version

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    console = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)
    place = Place()
    left_out: list[str] = []
    usable = loadable(kinds, place, left_out.append)
    for text in left_out:
        console.print(text)
    if not usable:
        console.print("cubbyhole bench: no channel can be loaded.")
        raise typer.Exit(1)
    settings = {"seconds": seconds, "repeat": repeat, "workloads": names, "channels": usable}
    result: dict[str, Any] = {
        "kind": "channels",
        "at": dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds"),
        "machine": describe_machine(),
        "commit": f"cubbyhole {version('cubbyhole')}",
        "command": shlex.join(["cubbyhole", *sys.argv[1:]]),
        "settings": settings,
        "left_out": left_out,
    }
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("", total=None)

        def tell(what: str, done: int, total: int, left_s: float) -> None:
            text = f"{what}about {left_s:3.0f} s left"
            progress.update(bar, description=text, completed=done, total=total)

        result["runs"] = measure(usable, names, place, tell, seconds=seconds, repeat=repeat)
    result["summary"] = summarize(result["runs"])
    return result
