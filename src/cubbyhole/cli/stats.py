# SPDX-License-Identifier: Apache-2.0
"""`cubbyhole stats`: how long the requests of a running server are in each phase, in one look.

Flow:  attach.py -> histograms -> **summary** -> tables, or JSON
Owns:  nothing; the server is only read.
See:   docs/guide/seeing.md
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from cubbyhole.cli.entries import Json, Server  # noqa: TC001  (typer reads them)
from cubbyhole.cli.facts import duration, size
from cubbyhole.seen.attached import AttachedServer, NoServer, attach

if TYPE_CHECKING:
    from cubbyhole.core.history import EndpointHistograms, Histogram

BAR_CHARACTERS = 24
QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}

# As `inspect` and the Server-Timing header call them -> field of EndpointHistograms; together they are a request's time.
PHASES = {"intake": "intake", "queue": "queue", "run": "execute", "collect": "collect"}
OTHER_TIMES = {"batch wait": "batch_wait", "first chunk": "first_chunk", "total": "request"}
SIZES = {"request": "request_bytes", "result": "result_bytes", "batch": "batch_size"}


def stats(
    json: Json = False,
    seconds: Annotated[
        float, typer.Option(help="Only what comes to an end in so many seconds from now.", min=0.0)
    ] = 0.0,
    server: Server = None,
) -> None:
    """Show how long requests are in each phase: means and quantiles by endpoint, since the server's start.

    For example `cubbyhole stats --seconds 10`: only what comes to an end in the next ten seconds.
    """
    try:
        with attach(server) as attached:
            found = look(attached, seconds)
            if json:
                text = msgspec.json.format(msgspec.json.encode(found), indent=2)
                typer.echo(text.decode())
                return
            _print(found, seconds)
    except NoServer as error:
        typer.echo(f"cubbyhole: {error}", err=True)
        raise typer.Exit(1) from None


def look(attached: AttachedServer, seconds: float = 0.0) -> dict[str, Any]:
    """Return the summary of each endpoint: since the server was started, or of so many seconds from now."""
    before = {one.endpoint: one for one in attached.histograms()} if seconds else {}
    rejected = attached.roster.rejections() if seconds else {}
    time.sleep(seconds)
    summaries = []
    for one in attached.histograms():
        earlier = before.get(one.endpoint)
        summaries.append(
            summary(since(one, earlier) if earlier else one, attached.path(one.endpoint))
        )
    rejections = {
        reason: count - rejected.get(reason, 0)
        for reason, count in attached.roster.rejections().items()
        if count > rejected.get(reason, 0)
    }
    return {"server": attached.description, "endpoints": summaries, "rejections": rejections}


def since(now: EndpointHistograms, before: EndpointHistograms) -> EndpointHistograms:
    """Return what was counted between two looks."""
    fields = (*PHASES.values(), *OTHER_TIMES.values(), *SIZES.values())
    parts = {field: getattr(now, field).since(getattr(before, field)) for field in fields}
    outcomes = {name: count - before.outcomes[name] for name, count in now.outcomes.items()}
    return msgspec.structs.replace(now, outcomes=outcomes, **parts)


def summary(one: EndpointHistograms, path: str) -> dict[str, Any]:
    """Return an endpoint's numbers as one mapping; times in seconds."""
    spent_s = sum(getattr(one, field).total for field in PHASES.values())
    phases = {}
    for name, field in PHASES.items():
        histogram: Histogram = getattr(one, field)
        share = round(histogram.total / spent_s, 4) if spent_s else 0.0
        phases[name] = {**_numbers(histogram), "share": share}
    others = {
        name: _numbers(getattr(one, field))
        for name, field in OTHER_TIMES.items()
        if getattr(one, field).count
    }
    sizes = {
        name: _numbers(getattr(one, field), exact=False)
        for name, field in SIZES.items()
        if getattr(one, field).count
    }
    return {
        "endpoint": path,
        "outcomes": one.outcomes,
        "phases_s": phases,
        "other_s": others,
        "sizes": sizes,
    }


def _numbers(histogram: Histogram, *, exact: bool = True) -> dict[str, Any]:
    read = histogram.quantile if exact else histogram.at_most
    quantiles = {name: read(fraction) for name, fraction in QUANTILES.items()}
    return {"count": histogram.count, "mean": histogram.mean, **quantiles}


def _print(found: dict[str, Any], seconds: float) -> None:
    from rich.console import Console

    console = Console()
    console = console if console.is_terminal else Console(width=120)
    about = found["server"]
    span = f"in {seconds:g} s" if seconds else "since its start"
    console.print(f"Server {about.pid} at {about.address}, requests that came to an end {span}")
    for one in found["endpoints"]:
        outcomes = [f"{count:,} {name}" for name, count in one["outcomes"].items() if count]
        console.print(f"\n{one['endpoint']}  {', '.join(outcomes) or 'none'}", highlight=False)
        if outcomes:
            console.print(_times(one))
            console.print(_sizes(one))
    if found["rejections"]:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in found["rejections"].items())
        console.print(f"\nnot taken: {reasons}", highlight=False)


def _table(*names: str) -> Any:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for number, name in enumerate(names):
        plain = number == 0 or name == "share of the time"
        table.add_column(name, justify="left" if plain else "right", no_wrap=True)
    return table


def _times(one: dict[str, Any]) -> Any:
    table = _table("phase", "count", "mean", *QUANTILES, "share of the time")
    for name, row in (one["phases_s"] | one["other_s"]).items():
        share = row.get("share")
        filled = round((share or 0) * BAR_CHARACTERS)
        bar = "" if share is None else f"{'█' * filled:<{BAR_CHARACTERS}} {share:4.0%}"
        times = (duration(row[key]) for key in ("mean", *QUANTILES))
        table.add_row(name, f"{row['count']:,}", *times, bar)
    return table


def _sizes(one: dict[str, Any]) -> Any:
    table = _table("size", "count", "mean", *(f"{name} <=" for name in QUANTILES))
    for name, row in one["sizes"].items():
        values = (row[key] for key in ("mean", *QUANTILES))
        texts = (f"{value:.3g}" if name == "batch" else size(value) for value in values)
        table.add_row(name, f"{row['count']:,}", *texts)
    return table
