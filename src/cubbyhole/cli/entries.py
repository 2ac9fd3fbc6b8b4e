# SPDX-License-Identifier: Apache-2.0
"""`cubbyhole requests` and `cubbyhole inspect`: every request of a running server, seen from outside.

Flow:  seen/attached.py -> entries and failures -> a table, a picture, or JSON
Owns:  nothing; the server is only read.
See:   docs/guide/seeing.md
"""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import msgspec
import typer

from cubbyhole.cli.columns import aligned, printable
from cubbyhole.cli.facts import NAME_CHARACTERS, fact_lines, worker_text
from cubbyhole.cli.past import finished_phases, finished_row
from cubbyhole.cli.payload import payload_parts, print_parts
from cubbyhole.cli.quarantine import death_row, print_deaths, show_quarantined
from cubbyhole.cli.recorded import RecordedServer
from cubbyhole.core.clock import NEVER_NS
from cubbyhole.observe.post_mortem import NoRecord
from cubbyhole.seen.attached import AttachedServer, NoServer, attach
from cubbyhole.seen.phases import Phase, draw, list_phases
from cubbyhole.seen.redaction import RedactionFailed

if TYPE_CHECKING:
    from typing import TypeAlias

    from cubbyhole.core.failures import FailureRecord
    from cubbyhole.core.history import FinishedEntry
    from cubbyhole.core.statistics import EntrySnapshot
    from cubbyhole.seen.contents import Content

    Seen: TypeAlias = AttachedServer | RecordedServer

Json = Annotated[bool, typer.Option("--json", help="JSON, for scripts.")]
Server = Annotated[
    int | None,
    typer.Option(
        metavar="PID", help="Which server, by its supervisor's pid; needed where several run."
    ),
]

File = Annotated[
    Path | None,
    typer.Option(metavar="PATH", help="A post mortem that a server wrote, instead of a server."),
]


def requests(
    json: Json = False,
    past: Annotated[
        bool, typer.Option("--past", help="Also requests that are over, as far as they are kept.")
    ] = False,
    quarantined: Annotated[
        bool,
        typer.Option(
            "--quarantined", help="Those that workers died of and that are not tried again."
        ),
    ] = False,
    server: Server = None,
    file: File = None,
) -> None:
    """Show every request that is under way, the oldest first.

    `cubbyhole inspect ID` shows one of them whole; `cubbyhole requests --past` also those that are over, with why they failed.
    """
    with _attach(server, file) as attached:
        if quarantined:
            show_quarantined(attached, as_json=json)
            return
        finished = attached.history() if past else []
        rows = [finished_row(attached, entry) for entry in finished]
        rows += [row(attached, entry) for entry in attached.entries()]
        failures = [failure_row(attached, record) for record in attached.failures()] if past else []
        if past and attached.kept is not None:
            ids = {one.id for one in attached.kept.read()}
            for one in (*rows, *failures):
                one["kept"] = one["id"] in ids
        if json:
            found = {"server": attached.description, "requests": rows, "failures": failures}
            _print_json(found)
            return
        _print_rows(attached, rows, past=past)
        if past:
            _print_failures(failures)
            if attached.kept is not None:
                typer.echo("\n* is kept: cubbyhole replay ID sends it again")


def inspect(
    request: Annotated[
        str,
        typer.Argument(
            metavar="ID",
            help="The entry's id, or its client's X-Request-ID while it is under way or if it failed.",
        ),
    ],
    json: Json = False,
    payload: Annotated[
        bool, typer.Option("--payload", help="Also what it carries, as far as it is still there.")
    ] = False,
    statistics: Annotated[
        bool, typer.Option("--statistics", help="With --payload: least, most and mean of tensors.")
    ] = False,
    server: Server = None,
    file: File = None,
) -> None:
    """Show one request whole: where it is, how long it was in each phase, and why it failed.

    For example `cubbyhole inspect 388117702378687`, `cubbyhole inspect order-17`. `cubbyhole requests --past` lists ids.
    """
    with _attach(server, file) as attached:
        entry = next((one for one in attached.entries() if str(one.id) == request), None)
        record = next(
            (one for one in attached.failures() if request in (str(one.id), one.request_id)), None
        )
        if entry is None and record is None and isinstance(attached, AttachedServer):
            entry = attached.named(request)
        one_of_them = record if record is not None else entry
        wanted = str(one_of_them.id) if one_of_them is not None else request
        past = next((one for one in attached.history() if str(one.id) == wanted), None)
        if entry is None and past is None and record is None:
            _fail(
                f"Server {attached.description.pid} knows no request {request}: it never came, or too many came after it. "
                "cubbyhole requests --past lists what is kept."
            )
        found = {}
        if entry is not None:
            found = row(attached, entry)
        elif past is not None:
            found = finished_row(attached, past)
        request_id = next((one.id for one in (entry, past, record) if one is not None), 0)
        deaths = attached.deaths().get(request_id, [])
        if record is not None:
            found |= {"failure_record": failure_row(attached, record)}
        if deaths:
            found |= {"deaths": [death_row(one) for one in deaths]}
        number = int(wanted) if wanted.isdecimal() else 0
        parts = _payload(attached, number, statistics=statistics) if payload else None
        if json:
            _print_json(found if parts is None else {**found, "payload": parts})
            return
        _print_one(attached, found, _phases(entry, past, record, attached.now_ns()), record)
        print_deaths(deaths)
        if parts is not None:
            print_parts(parts)


def row(attached: Seen, entry: EntrySnapshot) -> dict[str, Any]:
    """Return an entry as one flat mapping; ages in milliseconds."""
    time_ns = attached.now_ns()
    over = entry.state == "FREE"
    end_ns = (entry.done_ns or time_ns) if over else time_ns
    pid, word = attached.worker(entry.owner) if entry.owner >= 0 else (0, "")
    return {
        "id": entry.id,
        "endpoint": attached.path(entry.endpoint),
        "state": "over" if over else entry.state.lower(),
        "age_ms": round((end_ns - entry.received_ns) / 1e6, 3),
        "deadline_left_ms": (
            None
            if over or entry.deadline_ns >= NEVER_NS
            else round((entry.deadline_ns - time_ns) / 1e6, 3)
        ),
        "rank": entry.rank,
        "front": entry.front,
        "worker": entry.owner if entry.owner >= 0 else None,
        "worker_pid": pid or None,
        "worker_process": word if pid else None,
        "attempt": entry.attempt,
        "cancelled": entry.cancelled,
        "request_bytes": entry.request_bytes,
        "result_bytes": entry.result_bytes,
        "chunks": entry.chunks,
        "failure": entry.failure or None,
        "phases_ms": {
            phase.name: round(phase.duration_ms, 3)
            for phase in list_phases(times_of(entry), end_ns, over=over)
        },
    }


def failure_row(attached: Seen, record: FailureRecord) -> dict[str, Any]:
    """Return a failure as one mapping."""
    found: dict[str, Any] = msgspec.to_builtins(record)
    times_ns = tuple(found.pop("times_ns"))
    phases = list_phases(times_ns, record.failed_ns, over=True)
    found["endpoint"] = attached.path(record.endpoint)
    found["worker"] = record.worker if record.worker >= 0 else None
    found["ago_s"] = round((attached.now_ns() - found.pop("failed_ns")) / 1e9, 3)
    found["phases_ms"] = {phase.name: round(phase.duration_ms, 3) for phase in phases}
    return found


def _phases(
    entry: EntrySnapshot | None,
    past: FinishedEntry | None,
    record: FailureRecord | None,
    time_ns: int,
) -> list[Phase]:
    if past is not None:
        return finished_phases(past)
    if record is not None:
        return list_phases(record.times_ns, record.failed_ns, over=True)
    assert entry is not None  # noqa: S101  one of the three was found
    return list_phases(times_of(entry), time_ns, over=False)


def times_of(entry: EntrySnapshot) -> tuple[int, int, int, int, int]:
    """Return an entry's five times."""
    return (
        entry.received_ns,
        entry.ready_ns,
        entry.claimed_ns,
        entry.first_chunk_ns,
        entry.done_ns,
    )


def _payload(attached: Seen, request_id: int, *, statistics: bool) -> dict[str, Content]:
    if isinstance(attached, RecordedServer):
        _fail("A post mortem has no payloads. Ask a running server, or replay the request.")
    try:
        return payload_parts(attached, request_id, statistics=statistics)
    except RedactionFailed as error:
        _fail(str(error))


def _attach(pid: int | None, file: Path | None = None) -> Seen:
    try:
        return attach(pid) if file is None else RecordedServer(file)
    except (NoServer, NoRecord) as error:
        _fail(str(error))


def _fail(text: str) -> NoReturn:
    typer.echo(f"cubbyhole: {text}", err=True)
    raise typer.Exit(1)


def _print_json(found: Any) -> None:
    typer.echo(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())


def _print_rows(attached: Seen, rows: list[dict[str, Any]], *, past: bool) -> None:
    about = attached.description
    what = "kept" if past else "under way"
    noun = "request" if len(rows) == 1 else "requests"
    typer.echo(f"Server {about.pid} at {about.address}: {len(rows):,} {noun} {what}")
    if isinstance(attached, RecordedServer):
        typer.echo(_moment(attached))
    if not rows:
        return
    names = ("id", "endpoint", "state", "age ms", "left ms", "worker", "try", "in B", "out B", "chunks", "rank")  # fmt: skip
    right = {"age ms", "left ms", "try", "in B", "out B", "chunks"}
    typer.echo("\n".join(aligned(names, [_cells(one) for one in rows], right)))


def _cells(one: dict[str, Any]) -> tuple[str, ...]:
    left = one["deadline_left_ms"]
    return (
        f"{one['id']}{' *' if one.get('kept') else ''}",
        one["endpoint"],
        _state(one),
        f"{one['age_ms']:.1f}",
        "-" if left is None else f"{left:.0f}",
        worker_text(one),
        str(one["attempt"] + 1),
        str(one["request_bytes"]),
        str(one["result_bytes"]),
        str(one["chunks"]),
        str(one["rank"]),
    )


def _state(one: dict[str, Any]) -> str:
    if one["state"] == "over":
        return f"{one['status']} {one['failure'] or one['outcome']}"
    return f"{one['state']} cancelled" if one["cancelled"] else str(one["state"])


def _moment(recorded: RecordedServer) -> str:
    record = recorded.record
    moment = datetime.fromtimestamp(record.written_at_s, timezone.utc)
    return f"as it was at {moment:%Y-%m-%d %H:%M:%S} UTC ({record.cause})"


def _print_failures(failures: list[dict[str, Any]]) -> None:
    typer.echo(f"\nLast failures: {len(failures)}")
    if not failures:
        return
    rows = [
        (
            f"{one['id']}{' *' if one.get('kept') else ''}",
            one["endpoint"],
            f"{one['ago_s']:.1f}",
            str(one["status"]),
            one["code"],
            "-" if one["worker"] is None else str(one["worker"]),
            printable(one["message"].partition("\n")[0]),
        )
        for one in failures
    ]
    names = ("id", "endpoint", "ago s", "status", "code", "worker", "message")
    typer.echo("\n".join(aligned(names, rows, {"ago s"})))


def _print_one(
    attached: Seen,
    found: dict[str, Any],
    phases: list[Phase],
    record: FailureRecord | None,
) -> None:
    if "state" in found:
        lines = fact_lines(found)
    else:  # failures are kept longer than the rest
        failure = found["failure_record"]
        lines = [
            f"{name:<{NAME_CHARACTERS}}{failure[name]}" for name in ("id", "endpoint", "worker")
        ]
        lines.append(f"{'try':<{NAME_CHARACTERS}}{failure['attempt'] + 1}")
    if record is not None and record.request_id not in ("", str(record.id)):
        lines.insert(1, f"{'X-Request-ID':<{NAME_CHARACTERS}}{printable(record.request_id)}")
    typer.echo("\n".join([*lines, "", *draw(phases)]))
    if record is not None:
        typer.echo(f"\nfailed: {record.status} {record.code}, on {attached.path(record.endpoint)}")
        typer.echo(printable(record.message))
        if record.traceback_text:
            typer.echo(f"\n{printable(record.traceback_text.rstrip())}")
