# SPDX-License-Identifier: Apache-2.0
"""`cubbyhole cancel`, `rerank`, `drain`, `roll`, `scale`: change what a running server does, from outside.

Flow:  attach.py (which server) -> core.operations.ask -> its supervisor -> one line
Owns:  nothing.
See:   docs/guide/operating.md
"""

from __future__ import annotations

import os
import select
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from cubbyhole.cli.entries import Server  # noqa: TC001  (typer looks it up)
from cubbyhole.core.errors import OperatorUnheard
from cubbyhole.core.operations import Cancel, Drain, Rerank, Roll, Scale, ask
from cubbyhole.seen.attached import NoServer, attach, choose

if TYPE_CHECKING:
    from cubbyhole.core.operations import Done, Operation

EVERY_S = 0.5  # between two lines of progress
INTERRUPTED = 130  # as a shell has it

RequestId = Annotated[int, typer.Argument(metavar="ID", help="The entry's id: cubbyhole requests.")]


def cancel(request: RequestId, server: Server = None) -> None:
    """Take a request back: its client is answered 409 at once, and who runs it sees that it is cancelled.

    cubbyhole cancel 4294967297
    """
    _tell(server, Cancel(request))


def rerank(
    request: RequestId,
    priority: Annotated[
        int, typer.Argument(metavar="PRIORITY", help="0 (most urgent) to 9; 5 is what all have.")
    ],
    server: Server = None,
) -> None:
    """Give a request that waits another priority.

    cubbyhole rerank 4294967297 0
    """
    _tell(server, Rerank(request, priority))


def drain(
    server: Server = None,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Show the progress until it has ended.")
    ] = True,
) -> None:
    """End a server in order: it accepts nothing more, and what it has accepted is finished.

    cubbyhole drain
    """
    try:
        description, _, _ = choose(server)
        ended = os.pidfd_open(
            description.pid
        )  # before the question: after the end, it may be another's
    except (NoServer, ProcessLookupError) as error:
        _fail(str(error))
    try:
        _tell(description.pid, Drain())
        if wait:
            _watch(description.pid, ended)
    except KeyboardInterrupt:
        typer.echo(f"Server {description.pid} goes on draining.")
        raise typer.Exit(INTERRUPTED) from None
    finally:
        os.close(ended)


def roll(server: Server = None) -> None:
    """Replace all workers, one after another, for new code or weights; no request fails.

    cubbyhole roll
    """
    _tell(server, Roll())


def scale(
    workers: Annotated[int, typer.Argument(metavar="WORKERS", help="How many there shall be.")],
    path: Annotated[
        str | None, typer.Option(metavar="PATH", help="Of which API, if there are several.")
    ] = None,
    server: Server = None,
) -> None:
    """Have another number of workers, within the API's min_workers and max_workers.

    cubbyhole scale 4 --path /predict
    """
    _tell(server, Scale(path, workers))


def _tell(pid: int | None, operation: Operation) -> Done:
    try:
        description, _, _ = choose(pid)
        done = ask(description.admin, operation)
    except (NoServer, OperatorUnheard) as error:
        _fail(str(error))
    if not done.ok:
        _fail(done.text)
    typer.echo(done.text)
    return done


def _watch(pid: int, ended: int) -> None:
    said = ""
    while not select.select([ended], [], [], EVERY_S)[0]:
        line = _progress(pid)
        if line and line != said:
            typer.echo(line)
            said = line
    typer.echo(f"Server {pid} has ended.")


def _progress(pid: int) -> str:
    try:
        with attach(pid) as seen:
            roster = seen.roster
            counts: dict[str, Any] = {
                "requests": seen.statistics().slots_used,
                "fronts": sum(bool(roster.pid(cell)) for cell in range(roster.fronts)),
                "workers": sum(
                    bool(roster.pid(roster.worker_cell(index))) for index in range(roster.workers)
                ),
            }
    except NoServer:  # it ends just now, or its channel is not seen from outside
        return ""
    return "  ".join(f"{name} {count}" for name, count in counts.items())


def _fail(text: str) -> NoReturn:
    typer.echo(f"cubbyhole: {text}", err=True)
    raise typer.Exit(1)
