# SPDX-License-Identifier: Apache-2.0
"""What an orchestrator asks of one front: does it live, can it serve now, has the server ever been complete.

    /health/live      this front's loop turns, and its supervisor is there. 503: restart the container
    /health/ready     each API has a worker, and nothing is drained. 503: send requests elsewhere
    /health/startup   all workers were ready once; from then on 200, whatever happens to one of them

Apart from LitServe's `/health`, which is "ready" in the strictest sense (all workers, all `LitAPI.health`) and asks for the API key
where there is one: a kubelet has none. These are open, and say one word.

Flow:  assembly.py -> **add_probes**
Owns:  nothing; that the server was complete is noted in the roster, so that a new front knows it, too.
See:   docs/guide/kubernetes.md
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from fastapi import Response

from cubbyhole.core.roster import ProcessState

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from fastapi import FastAPI

    from cubbyhole.front.desk import Desk


def probe_paths(healthcheck_path: str) -> tuple[str, str, str]:
    """Return the paths of live, ready and startup."""
    base = healthcheck_path.rstrip("/")
    return f"{base}/live", f"{base}/ready", f"{base}/startup"


def add_probes(app: FastAPI, desk: Desk) -> None:
    """Add the three probes, open to all."""
    probes: tuple[tuple[Callable[[Desk], bool], str, str], ...] = (
        (is_live, "live", "not live"),
        (is_ready, "ready", "not ready"),
        (is_started, "started", "starting"),
    )
    for path, (ask, yes, no) in zip(
        probe_paths(desk.settings.healthcheck_path), probes, strict=True
    ):
        app.add_api_route(
            path, _answer(desk, ask, yes, no), response_model=None, include_in_schema=False
        )


def _answer(
    desk: Desk, ask: Callable[[Desk], bool], yes: str, no: str
) -> Callable[[], Awaitable[Response]]:
    async def probe() -> Response:
        return Response(yes, 200) if ask(desk) else Response(no, 503)

    return probe


def is_live(desk: Desk) -> bool:
    """Tell whether the supervisor is there; that we answer says the rest."""
    place = desk.place
    if place is None:
        return False
    # A front whose supervisor is gone has another parent; in tests the front has none of its own.
    pid = place.roster.pid(place.roster.supervisor)
    return pid in {0, os.getppid(), os.getpid()}


def is_ready(desk: Desk) -> bool:
    """Tell whether a request to any API would be served now."""
    place, exchange = desk.place, desk.exchange
    if place is None or exchange is None:
        return False
    roster, settings = place.roster, desk.settings
    draining = ProcessState.DRAINING
    if roster.state(place.index) == draining or roster.state(roster.supervisor) == draining:
        return False
    most = desk.queue_share if settings.unready_when_full else None
    if most is not None and exchange.statistics().waiting >= most:
        return False
    served = {
        settings.worker_place(index)[0]
        for index in range(settings.workers_total)
        if roster.state(roster.worker_cell(index)) == ProcessState.READY
    }
    return len(served) == len(settings.endpoints)


def is_started(desk: Desk) -> bool:
    """Tell whether all workers were ready at some time."""
    if desk.place is None:
        return False
    desk.note_completeness()
    return desk.place.roster.was_complete()
