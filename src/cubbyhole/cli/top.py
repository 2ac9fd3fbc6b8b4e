# SPDX-License-Identifier: Apache-2.0
"""`cubbyhole top`: a running server, live, seen from outside.

Flow:  seen/attached.py -> live/app.py, where textual is installed; else, and for `--once`: **picture** -> standard output
Owns:  nothing; the server is only read.
See:   docs/guide/seeing.md
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated

import typer

from cubbyhole.cli.columns import aligned
from cubbyhole.cli.entries import Server, row
from cubbyhole.core.clock import now_ns
from cubbyhole.seen.attached import AttachedServer, NoServer, attach
from cubbyhole.seen.process_state import is_there, read_usage

if TYPE_CHECKING:
    from cubbyhole.core.statistics import ChannelStatistics, EntrySnapshot
    from cubbyhole.seen.process_state import Usage

SHOWN_ENTRIES = 15  # the oldest: what is stuck is among them


@dataclass(frozen=True)
class Sample:
    """Counters at one moment, for rates."""

    time_ns: int
    statistics: ChannelStatistics
    usages: dict[int, Usage | None]


def top(
    server: Server = None,
    every: Annotated[float, typer.Option(help="Seconds between two looks.", min=0.1)] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="Print one picture and end.")] = False,
) -> None:
    """Watch a running server: processes, queues, requests, memory, rates.

    A screen with keys where `cubbyhole[tui]` is installed; `cubbyhole top --once` prints one picture and ends.
    """
    try:
        with attach(server) as attached:
            before = take_sample(attached)
            if once:
                time.sleep(min(every, 1.0))
                typer.echo(picture(attached, before, take_sample(attached)))
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
            _watch(attached, before, every)
    except KeyboardInterrupt:
        return
    except NoServer as error:
        typer.echo(f"cubbyhole: {error}", err=True)
        raise typer.Exit(1) from None


def _watch(attached: AttachedServer, before: Sample, every: float) -> None:
    from rich.live import Live
    from rich.text import Text

    with Live(auto_refresh=False, screen=True) as live:
        while True:
            time.sleep(every)
            now = take_sample(attached)
            shown = Text.from_ansi(
                picture(attached, before, now), no_wrap=True, overflow="ellipsis"
            )
            live.update(shown, refresh=True)
            before = now


def take_sample(attached: AttachedServer) -> Sample:
    """Read the counters."""
    roster = attached.roster
    usages = {
        pid: read_usage(pid) for cell in range(roster.supervisor + 1) if (pid := roster.pid(cell))
    }
    return Sample(now_ns(), attached.statistics(), usages)


def picture(attached: AttachedServer, before: Sample, now: Sample) -> str:
    """Return what the screen shows, from two samples. Lines, as rich takes five times as long for the same."""
    entries = attached.entries()
    parts = (
        _head(attached, before, now),
        _processes(attached, entries, before, now),
        _queues(attached, entries),
        _entries(attached, entries),
    )
    return "\n\n".join(parts)


def _head(attached: AttachedServer, before: Sample, now: Sample) -> str:
    about, n = attached.description, now.statistics
    seconds = max(1e-9, (now.time_ns - before.time_ns) / 1e9)

    def rate(field: str) -> float:
        return float(getattr(n, field) - getattr(before.statistics, field)) / seconds

    gone = "" if is_there(about.pid) else " | the supervisor is gone"
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
) -> str:
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
        usage = now.usages.get(pid)
        earlier = before.usages.get(pid)
        used_s = usage.cpu_s - earlier.cpu_s if usage and earlier else 0.0
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


def _queues(attached: AttachedServer, entries: list[EntrySnapshot]) -> str:
    rows: list[tuple[str, ...]] = []
    time_ns = now_ns()
    for number, path in enumerate(attached.description.endpoints):
        here = [entry for entry in entries if entry.endpoint == number]
        running = sum(entry.state in ("CLAIMED", "STREAMING") for entry in here)
        waiting = sum(entry.state == "READY" for entry in here)
        oldest = f"{(time_ns - here[0].received_ns) / 1e6:.0f}" if here else "-"
        rows.append((path, str(waiting), str(running), oldest))
    return _table(("endpoint", "waiting", "running", "oldest ms"), rows)


def _entries(attached: AttachedServer, entries: list[EntrySnapshot]) -> str:
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


def _table(titles: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    heading, *lines = aligned(titles, rows)
    return "\n".join((typer.style(heading, bold=True), *lines))
