# SPDX-License-Identifier: Apache-2.0
"""The route at `/`, which every server has and any user may replace.

LitServe answers `/` with one line. It is registered before the user can add routes, and the first route that fits
wins, so it steps aside by itself for a page or a mount of the user's.

Flow:  routes.py -> **IndexRoute** -> server.app
Owns:  nothing.
"""

from __future__ import annotations

from typing import Any

from fastapi import Response
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute, Match


class IndexRoute(APIRoute):
    """Answers `/` unless another route of the same app does.

    Args:
        path: "/".
        endpoint: `index`.
        routes: Of the app; looked through at each request for `/`, as users add to it until the server runs.
        **options: As `APIRoute` takes them.
    """

    def __init__(self, path: str, endpoint: Any, routes: list[BaseRoute], **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        self._routes = routes

    def matches(self, scope: Any) -> tuple[Match, Any]:
        """Match if nobody else does."""
        match, child = super().matches(scope)
        others = (route for route in self._routes if route is not self)
        if match is Match.FULL and any(route.matches(scope)[0] is Match.FULL for route in others):
            return Match.NONE, {}
        return match, child


async def index() -> Response:
    """LitServe's line."""
    return Response(content="litserve running")
