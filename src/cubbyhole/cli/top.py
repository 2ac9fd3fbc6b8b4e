# SPDX-License-Identifier: Apache-2.0
"""`cubbyhole top`: a running server, live, seen from outside.

Flow:  seen/attached.py -> live/app.py, where textual is installed; else, and for `--once`: **picture** -> rich
Owns:  nothing; the server is only read.
See:   docs/guide/seeing.md
"""

from __future__ import annotations

import time
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from cubbyhole.cli.columns import aligned
from cubbyhole.cli.entries import Server, row
from cubbyhole.core.clock import now_ns
from cubbyhole.seen.attached import AttachedServer, NoServer, attach
from cubbyhole.seen.process_state import read_usage

if TYPE_CHECKING:
    from cubbyhole.core.statistics import ChannelStatistics, EntrySnapshot

SHOWN_ENTRIES = 15  # the oldest: what is stuck is among them


class Sample(msgspec.Struct, frozen=True):
    """Counters at one moment, for rates."""

    time_ns: int
    statistics: ChannelStatistics
    cpu_s: dict[int, float]


def top(
    server: Server = None,
    every: Annotated[float, typer.Option(help="Seconds between two looks.", min=0.1)] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="Print one picture and end.")] = False,
) -> None:
    """Watch a running server: processes, queues, requests, memory, rates.

    A screen with keys where `cubbyhole[tui]` is installed; `cubbyhole top --once` prints one picture and ends.
    """
    from rich.console import Console
    from rich.live import Live

    try:
        with attach(server) as attached:
            before = take_sample(attached)
            if once:
                time.sleep(min(every, 1.0))
                console = Console()
                console = console if console.is_terminal else Console(width=160)
                console.print(picture(attached, before, take_sample(attached)))
                return
            if find_spec("textual") is not None:
                from cubbyhole.cli.live.app import run_top

                run_top(attached, every)
                return
            typer.echo(
                "cubbyhole: textual is not installed, so this view can only be looked at. For sorting, filters and details: "
                "pip install 'cubbyhole[tui]'",
                err=True,
            )
            with Live(auto_refresh=False, screen=True) as live:
                while True:
                    time.sleep(every)
                    now = take_sample(attached)
                    live.update(picture(attached, before, now), refresh=True)
                    before = now
    except KeyboardInterrupt:
        return
    except NoServer as error:
        typer.echo(f"cubbyhole: {error}", err=True)
        raise typer.Exit(1) from None


def take_sample(attached: AttachedServer) -> Sample:
    """Read the counters."""
    roster = attached.roster
    usages = {
        pid: read_usage(pid) for cell in range(roster.supervisor + 1) if (pid := roster.pid(cell))
    }
    cpu_s = {pid: usage.cpu_s for pid, usage in usages.items() if usage is not None}
    return Sample(now_ns(), attached.statistics(), cpu_s)


def picture(attached: AttachedServer, before: Sample, now: Sample) -> Any:
    """Return what the screen shows, from two samples."""
    from rich.console import Group

    entries = attached.entries()
    return Group(
        _head(attached, before, now),
        "",
        _processes(attached, entries, before, now),
        "",
        _queues(attached, entries),
        "",
        _entries(attached, entries),
    )


def _head(attached: AttachedServer, before: Sample, now: Sample) -> str:
    about, n = attached.description, now.statistics
    seconds = max(1e-9, (now.time_ns - before.time_ns) / 1e9)

    def rate(field: str) -> float:
        return float(getattr(n, field) - getattr(before.statistics, field)) / seconds

    gone = " | the supervisor is gone" if read_usage(about.pid) is None else ""
    return (
        f"cubbyhole {about.version} | supervisor {about.pid} | {about.address} | {about.channel}{gone}\n"
        f"rates  {rate('submitted_total'):.1f} requests/s  {rate('published_total'):.1f} answers/s  "
        f"{rate('failed_total'):.1f} failures/s  {rate('chunks_total'):.1f} chunks/s\n"
        f"memory {n.arena_used_bytes / 1e6:.1f} of {n.arena_bytes / 1e6:.0f} MB in {n.blocks_used} blocks  "
        f"slots {n.slots_used} of {n.slots}\n"
        f"total  {n.published_total} answered  {n.failed_total} failed  {n.expired_total} expired  "
        f"{n.cancelled_total} cancelled  {n.reclaimed_total} reclaimed"
    )


def _processes(
    attached: AttachedServer, entries: list[EntrySnapshot], before: Sample, now: Sample
) -> Any:
    roster, about = attached.roster, attached.description
    titles = ("process", "state", "pid", "kernel", "CPU %", "MB", "beat s", "restarts", "holds")
    rows: list[tuple[str, ...]] = []
    held: dict[int, EntrySnapshot] = {}
    for entry in entries:  # oldest first
        if entry.owner >= 0:
            held.setdefault(entry.owner, entry)
    names = [(f"front {index}", index, -1) for index in range(roster.fronts)]
    for index, place in enumerate(about.workers):
        name = f"worker {index} {attached.path(place.endpoint)} {place.device}"
        names.append((name, roster.worker_cell(index), index))
    seconds = max(1e-9, (now.time_ns - before.time_ns) / 1e9)
    for name, cell, worker in names:
        pid = roster.pid(cell)
        usage = read_usage(pid) if pid else None
        used_s = now.cpu_s.get(pid, 0.0) - before.cpu_s.get(pid, now.cpu_s.get(pid, 0.0))
        beat_ns = roster.last_beat_ns(cell)
        one = held.get(worker)
        age_ms = (now.time_ns - one.received_ns) / 1e6 if one else 0.0
        row_of_process = (
            name,
            roster.state(cell).name.lower(),
            str(pid or "-"),
            usage.word if usage else ("dead" if roster.state(cell) else "-"),
            f"{used_s / seconds * 100:.0f}",
            f"{usage.resident_bytes / 1e6:.0f}" if usage else "-",
            f"{max(0, now.time_ns - beat_ns) / 1e9:.1f}" if beat_ns else "-",
            str(roster.restarts(cell)),
            f"{one.id} for {age_ms:.0f} ms" if one else "-",
        )
        rows.append(row_of_process)
    return _table(titles, rows)


def _queues(attached: AttachedServer, entries: list[EntrySnapshot]) -> Any:
    rows: list[tuple[str, ...]] = []
    time_ns = now_ns()
    for number, path in enumerate(attached.description.endpoints):
        here = [entry for entry in entries if entry.endpoint == number]
        running = sum(entry.state in ("CLAIMED", "STREAMING") for entry in here)
        waiting = sum(entry.state == "READY" for entry in here)
        oldest = f"{(time_ns - here[0].received_ns) / 1e6:.0f}" if here else "-"
        rows.append((path, str(waiting), str(running), oldest))
    return _table(("endpoint", "waiting", "running", "oldest ms"), rows)


def _entries(attached: AttachedServer, entries: list[EntrySnapshot]) -> Any:
    titles = ("request", "endpoint", "state", "age ms", "left ms", "worker", "try", "in B")
    rows: list[tuple[str, ...]] = []
    for entry in entries[:SHOWN_ENTRIES]:
        one = row(attached, entry)
        left = one["deadline_left_ms"]
        cells = (
            str(one["id"]),
            one["endpoint"],
            one["state"],
            f"{one['age_ms']:.0f}",
            "-" if left is None else f"{left:.0f}",
            "-" if one["worker"] is None else f"{one['worker']} ({one['worker_process']})",
            str(one["attempt"] + 1),
            str(one["request_bytes"]),
        )
        rows.append(cells)
    if len(entries) > SHOWN_ENTRIES:
        rows.append((f"and {len(entries) - SHOWN_ENTRIES:,} more", *[""] * 7))
    return _table(titles, rows)


def _table(titles: tuple[str, ...], rows: list[tuple[str, ...]]) -> Any:
    """Return lines, the first of them headings. A table by rich takes ten times as long for the same."""
    from rich.text import Span, Text

    heading, *lines = aligned(titles, rows)
    whole = "\n".join((heading, *lines))
    return Text(whole, no_wrap=True, overflow="ellipsis", spans=[Span(0, len(heading), "bold")])
