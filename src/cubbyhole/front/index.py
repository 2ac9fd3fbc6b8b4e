# SPDX-License-Identifier: Apache-2.0
"""The routes at `/` and `/metrics`, which every server has and any user may replace.

LitServe answers `/` with one line. It is registered before the user can add routes, and the first route that fits
wins, so it steps aside by itself for a page or a mount of the user's.

Flow:  routes.py -> **IndexRoute** -> server.app
Owns:  nothing.
"""

from __future__ import annotations

from typing import Any

from fastapi import Response
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute, Match, Mount


class IndexRoute(APIRoute):
    """Answers its path unless another route of the same app does, or a mount there (which Starlette reaches by a redirect).

    Args:
        path: "/" or "/metrics".
        endpoint: The function that answers.
        routes: Of the app; looked through at each request for the path, as users add to it until the server runs.
        **options: As `APIRoute` takes them.
    """

    def __init__(self, path: str, endpoint: Any, routes: list[BaseRoute], **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        self._routes = routes

    def matches(self, scope: Any) -> tuple[Match, Any]:
        """Match if nobody else does."""
        match, child = super().matches(scope)
        if match is Match.FULL and any(
            self._is_met_by(route, scope) for route in self._routes if route is not self
        ):
            return Match.NONE, {}
        return match, child

    def _is_met_by(self, route: BaseRoute, scope: Any) -> bool:
        mounted = isinstance(route, Mount) and route.path == self.path
        return mounted or route.matches(scope)[0] is Match.FULL


async def index() -> Response:
    """LitServe's line."""
    return Response(content="litserve running")
