# SPDX-License-Identifier: Apache-2.0
"""`cubbyhole requests --quarantined`: the requests that workers died of, one after another, and that are not tried again.

Flow:  attach.py -> failures with the code "poison", and the deaths that the supervisor noted for each -> text or JSON
Owns:  nothing; the server is only read.
See:   docs/guide/operating.md, supervise/deaths.py
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import typer

from cubbyhole.core.clock import now_ns

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cubbyhole.cli.recorded import RecordedServer
    from cubbyhole.core.failures import FailureRecord
    from cubbyhole.seen.attached import AttachedServer

POISON = "poison"


def list_quarantined(attached: AttachedServer | RecordedServer) -> list[dict[str, Any]]:
    """Return the quarantined requests that are kept, oldest first, each with the deaths that it caused."""
    deaths = attached.deaths()
    return [
        {
            "id": record.id,
            "request_id": record.request_id or None,
            "endpoint": attached.path(record.endpoint),
            "ago_s": _ago_s(record),
            "deaths": [death_row(death) for death in deaths.get(record.id, [])],
        }
        for record in attached.failures()
        if record.code == POISON
    ]


def death_row(record: FailureRecord) -> dict[str, Any]:
    """Return one death as a mapping."""
    return {
        "attempt": record.attempt,
        "worker": record.worker,
        "ago_s": _ago_s(record),
        "message": record.message,
    }


def show_quarantined(attached: AttachedServer | RecordedServer, *, as_json: bool) -> None:
    """Print them."""
    rows = list_quarantined(attached)
    if as_json:
        found = msgspec.json.encode({"server": attached.description, "quarantined": rows})
        typer.echo(msgspec.json.format(found, indent=2).decode())
        return
    about = attached.description
    typer.echo(f"Server {about.pid} at {about.address}: {len(rows)} requests quarantined")
    for one in rows:
        name = f" ({one['request_id']})" if one["request_id"] else ""
        typer.echo(f"\n{one['id']}{name}  {one['endpoint']}  {one['ago_s']:.1f} s ago")
        for death in one["deaths"]:
            typer.echo(f"  try {death['attempt'] + 1}: {death['message']}")


def print_deaths(deaths: Sequence[FailureRecord]) -> None:
    """Print the workers that ended while they held one request."""
    if deaths:
        typer.echo("\nworkers that ended while they held it")
    for one in deaths:
        typer.echo(f"  try {one.attempt + 1}: {one.message}, {_ago_s(one):.1f} s ago")


def _ago_s(record: FailureRecord) -> float:
    return round((now_ns() - record.failed_ns) / 1e9, 3)
