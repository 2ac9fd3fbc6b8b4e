# SPDX-License-Identifier: Apache-2.0
"""The routes of a server's app: `/`, health, info, shutdown, tools, model paths (slow lane) and what specs add.

Flow:  LitServer() -> **build_app** -> server.app; uvicorn -> FrontApp -> server.app -> these
Owns:  nothing; the state is the desk's.
See:   app.py (the fast lane), docs/design/request-path.md
"""

from __future__ import annotations

import inspect
import logging
from typing import TYPE_CHECKING, Any

from fastapi import Depends, FastAPI, HTTPException, Request, Response
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import JSONResponse
from starlette.routing import Match

from cubbyhole.core.roster import ProcessState
from cubbyhole.front import compression, openapi
from cubbyhole.front.index import IndexRoute, index
from cubbyhole.front.lanes import kind_of_lane
from cubbyhole.front.limits import MaxSizeMiddleware, RequestCountMiddleware
from cubbyhole.front.probes import probe_paths
from cubbyhole.front.tools import add_tools

if TYPE_CHECKING:
    from collections.abc import Callable

    from cubbyhole.front.access import AccessLog
    from cubbyhole.front.desk import Desk
    from cubbyhole.front.lane import Lane
    from cubbyhole.observe.exposition import Exposition

logger = logging.getLogger(__name__)

METRICS_PATH = "/metrics"


class LaneResponse(Response):
    """Hands a request that came through FastAPI on to its lane, which answers by itself."""

    def __init__(self, lane: Lane, body: bytes | None) -> None:
        super().__init__()
        self._lane = lane
        self._body = body

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer (ASGI)."""
        if self._body is None:
            await self._lane.answer(scope, receive, send)
            return
        body: bytes | None = self._body

        async def replayed() -> Any:
            nonlocal body
            if body is None:
                return await receive()
            message = {"type": "http.request", "body": body, "more_body": False}
            body = None
            return message

        await self._lane.answer(scope, replayed, send)


class _LaneEndpoint:
    """The route function of a model path."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane

    async def __call__(self, request: Request) -> Response:
        # A dependency (authorize) may have read the body; Starlette keeps it on the request, and there is no public way to ask.
        return LaneResponse(self._lane, getattr(request, "_body", None))


class _MetricsEndpoint:
    """The route function of `/metrics`."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._exposition: Exposition | None = None

    async def __call__(self, request: Request) -> Response:
        place = self._desk.place
        if place is None:
            raise HTTPException(503, "Server is still starting up")
        from cubbyhole.observe import metrics  # who is never scraped does not pay for it
        from cubbyhole.observe.exposition import Exposition

        reading = metrics.read(place.channel, place.roster, self._desk.settings)
        self._exposition = self._exposition or Exposition()
        accept = request.headers.get("accept", "")
        text, content_type = self._exposition.text(list(metrics.families(reading)), accept)
        return Response(text, headers={"content-type": content_type})


def is_compressed(desk: Desk) -> bool:
    """Tell whether answers are compressed: LitServe does not where any API streams."""
    return not any(endpoint.stream for endpoint in desk.settings.endpoints)


def is_guarded(lit_api: Any) -> bool:
    """Tell whether an API is guarded by the API key, and not by an `authorize` of its own."""
    return not callable(getattr(lit_api, "authorize", None))


def make_app(desk: Desk, openapi_url: str | None) -> FastAPI:
    """Make `server.app`, without any route. No `openapi_url`: no document and none of its pages."""
    return FastAPI(lifespan=desk.lifespan, openapi_url=openapi_url)


def add_routes(app: FastAPI, desk: Desk, guard: Callable[[Any], Callable[..., Any]]) -> None:
    """Add the routes of a server.

    Args:
        app: `server.app`.
        desk: The server's.
        guard: Gives the dependency that guards an API, or the paths that belong to none (None).
    """
    only = desk.lit_apis[0] if len(desk.lit_apis) == 1 else None
    _add_own_routes(app, desk, [Depends(guard(only))])
    for number, lit_api in enumerate(desk.lit_apis):
        _add_model_routes(app, desk, number, lit_api, guard)
    add_tools(app, desk.lit_apis, [Depends(guard(only))])
    openapi.add_models(app, list(desk.lit_apis))
    roots = {
        api.spec.root: api.spec.error_key for api in desk.lit_apis if hasattr(api.spec, "root")
    }
    if roots:
        app.router.default = _UnknownPath(roots, app.router.default)


class _UnknownPath:
    """Answers 404 below a protocol's root under the key that its clients read. No route, which would stand before the user's own.

    Args:
        roots: Path -> key.
        default: What answers elsewhere.
    """

    def __init__(self, roots: dict[str, str], default: Any) -> None:
        self._roots = roots
        self._default = default

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        path = str(scope.get("path", ""))
        for root, key in self._roots.items():
            if scope["type"] == "http" and path.startswith(f"{root}/"):
                answer = JSONResponse({key: f"Nothing is served at {path[:200]}."}, 404)
                await answer(scope, receive, send)
                return
        await self._default(scope, receive, send)


def add_middlewares(app: FastAPI, desk: Desk, middlewares: list[Any]) -> list[Any]:
    """Add the user's middlewares, classes or (class, kwargs), and then LitServe's own. The last is outermost.

    Returns:
        LitServe's own, as `app.user_middleware` holds them. The fast lane does without them what they do.
    """
    for middleware in middlewares:
        if isinstance(middleware, tuple):
            app.add_middleware(middleware[0], **middleware[1])
        else:
            app.add_middleware(middleware)
    settings = desk.settings
    users = list(app.user_middleware)
    if is_compressed(desk):
        app.add_middleware(
            GZipMiddleware,
            minimum_size=compression.MINIMUM_BYTES,
            compresslevel=compression.LEVEL,
        )
    if settings.max_payload_bytes is not None:
        app.add_middleware(
            MaxSizeMiddleware, max_size=settings.max_payload_bytes, reject=desk.reject
        )
    if settings.track_requests:
        paths = frozenset((settings.healthcheck_path, *probe_paths(settings.healthcheck_path)))
        app.add_middleware(RequestCountMiddleware, desk=desk, paths=paths)
    return [middleware for middleware in app.user_middleware if middleware not in users]


def fast_lanes(
    app: FastAPI, desk: Desk, own_middlewares: list[Any], access_log: AccessLog | None = None
) -> dict[str, Lane]:
    """Return the model paths whose requests no user code in the front needs to see.

    Args:
        app: `server.app`, as it is when the front starts.
        desk: The server's.
        own_middlewares: What `app.user_middleware` holds of ours.
        access_log: Where they note their requests, if there is one.
    """
    if (
        any(middleware not in own_middlewares for middleware in app.user_middleware)
        or app.dependency_overrides
        or app.router.dependencies
        or app.exception_handlers != FastAPI().exception_handlers
    ):
        return {}
    compressed = is_compressed(desk)
    make = kind_of_lane(desk.settings, access_log=access_log)
    return {
        path: make(desk, number, guarded=True, compressed=compressed, inside_fastapi=False)
        for number, endpoint in enumerate(desk.settings.endpoints)
        for path in (endpoint.path, *_more_paths(desk.lit_apis[number]))
        if is_guarded(desk.lit_apis[number]) and _leads_to_lane(app, path)
    }


def _more_paths(lit_api: Any) -> tuple[str, ...]:
    """Return further paths on which a spec serves the same API."""
    return tuple(getattr(lit_api.spec, "more_paths", ()))


def _leads_to_lane(app: FastAPI, path: str) -> bool:
    """Tell whether a POST would reach our route; a route of the user's or a spec's may stand before it."""
    scope = {"type": "http", "method": "POST", "path": path, "root_path": "", "headers": []}
    for route in app.router.routes:
        if route.matches(scope)[0] is Match.FULL:
            return isinstance(getattr(route, "endpoint", None), _LaneEndpoint)
    return False


def _add_model_routes(
    app: FastAPI, desk: Desk, number: int, lit_api: Any, guard: Callable[[Any], Callable[..., Any]]
) -> None:
    spec = lit_api.spec
    if spec is not None:
        spec.setup(desk.server)
        learn_readiness = getattr(spec, "learn_readiness", None)
        if learn_readiness is not None:
            learn_readiness(lambda: processes_ready(desk))
    endpoints = [] if spec is None else spec.endpoints
    dependencies = [Depends(guard(lit_api))]
    for path, endpoint, methods in endpoints:
        app.add_api_route(path, endpoint, methods=methods, dependencies=dependencies)
    path = desk.settings.endpoints[number].path
    if any(path == other and "POST" in methods for other, _, methods in endpoints):
        return
    make = kind_of_lane(desk.settings)
    lane = make(desk, number, guarded=is_guarded(lit_api), compressed=False, inside_fastapi=True)

    for each in (path, *_more_paths(lit_api)):
        app.add_api_route(
            each,
            _LaneEndpoint(lane),
            methods=["POST"],
            name=each.strip("/").replace("/", "_") or "predict",
            dependencies=dependencies,
            response_model=None,
            openapi_extra=openapi.describe(lit_api, stream=desk.settings.endpoints[number].stream),
        )
    empty_methods = list(getattr(spec, "empty_methods", ()))
    if empty_methods:
        app.add_api_route(path, _empty, methods=empty_methods, include_in_schema=False)


async def _empty() -> Response:
    return Response(status_code=200)


def _add_own_routes(app: FastAPI, desk: Desk, dependencies: list[Any]) -> None:
    settings = desk.settings

    async def health() -> Response:
        ready = processes_ready(desk) and await _apis_healthy(desk)
        return Response("ok", 200) if ready else Response("not ready", 503)

    async def info() -> dict[str, Any]:
        return describe_server(desk)

    own = {"methods": ["GET"], "dependencies": dependencies, "response_model": None}
    app.router.routes.append(IndexRoute("/", index, app.router.routes, **own))
    app.add_api_route(
        settings.healthcheck_path, health, dependencies=dependencies, response_model=None
    )
    app.add_api_route(settings.info_path, info, dependencies=dependencies, response_model=None)
    app.router.routes.append(
        IndexRoute(
            METRICS_PATH,
            _MetricsEndpoint(desk),
            app.router.routes,
            **own,
            include_in_schema=False,
        )
    )


def add_shutdown_route(app: FastAPI, desk: Desk, path: str, guard: Callable[..., Any]) -> None:
    """Add the endpoint that ends the server."""

    async def shutdown() -> Response:
        if desk.shut_down is None:
            raise HTTPException(503, "Server is still starting up")
        logger.info("shutdown asked for: path=%s", path)
        desk.shut_down()
        return Response("Server is initiating graceful shutdown.", 200)

    app.add_api_route(path, shutdown, methods=["POST"], dependencies=[Depends(guard)])


def describe_server(desk: Desk) -> dict[str, Any]:
    """Return what `/info` says."""
    server, settings = desk.server, desk.settings
    return {
        "model": settings.model_metadata,
        "server": {
            "devices": server.devices,
            "workers_per_device": server.workers_per_device,
            "timeout": server.timeout,
            "stream": {endpoint.path: endpoint.stream for endpoint in settings.endpoints},
            "max_payload_size": server.max_payload_size,
            "track_requests": server.track_requests,
            "channel": settings.channel if desk.place is None else desk.place.channel.kind,
            "lanes": {
                endpoint.path: "fast" if endpoint.path in desk.fast_paths else "slow"
                for endpoint in settings.endpoints
            },
        },
    }


def processes_ready(desk: Desk) -> bool:
    """Tell whether all workers are ready and nobody drains."""
    if desk.place is None or desk.exchange is None:
        return False
    roster = desk.place.roster
    draining = ProcessState.DRAINING
    return (
        roster.workers_ready()
        and roster.state(desk.place.index) != draining
        and roster.state(roster.supervisor) != draining
    )


async def _apis_healthy(desk: Desk) -> bool:
    for lit_api in desk.lit_apis:
        try:
            healthy = lit_api.health()
            if inspect.isawaitable(healthy):
                healthy = await healthy
        except Exception:
            logger.warning("health raised: path=%s", lit_api.api_path, exc_info=True)
            return False
        if not healthy:
            return False
    return True
