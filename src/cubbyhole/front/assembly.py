# SPDX-License-Identifier: Apache-2.0
"""Put `server.app` together: the routes of every server, and what this one was given besides.

A module of its own, as importing FastAPI takes longer than anything else at the start: `LitServer` imports it only once the
workers are on their way.

Flow:  LitServer.app -> **assemble** -> routes.py, auth.py
Owns:  nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cubbyhole.front import auth, routes
from cubbyhole.front.probes import add_probes
from cubbyhole.front.withdrawal import add_withdrawal_route

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastapi import FastAPI

    from cubbyhole.front.desk import Desk


def assemble(
    desk: Desk,
    openapi_url: str | None,
    *,
    guard: Callable[[Any], Callable[..., Any]],
    middlewares: list[Any],
    loggers: list[Any],
    read_shutdown_key: Callable[[], str],
) -> tuple[FastAPI, list[Any]]:
    """Make the app.

    Args:
        desk: The server's.
        openapi_url: None: no OpenAPI document and none of its pages.
        guard: LitAPI (or None, for what belongs to no API) -> the dependency that guards it.
        middlewares: The user's, as in LitServe.
        loggers: Whose mounts are added.
        read_shutdown_key: For the shutdown endpoint, where there is one.

    Returns:
        The app, and the middlewares on it that are ours: the fast lane does their work itself.
    """
    app = routes.make_app(desk, openapi_url)
    routes.add_routes(app, desk, guard)
    add_probes(app, desk)
    own = routes.add_middlewares(app, desk, middlewares)
    path = desk.settings.shutdown_path
    if path is not None:
        routes.add_shutdown_route(app, desk, path, auth.bearer_dependency(read_shutdown_key))
    if desk.settings.cancel_by_id:
        add_withdrawal_route(app, desk, guard(None))
    for logger in loggers:
        for mount_path, mounted in logger.mounts:
            app.mount(mount_path, mounted)
    return app, own
