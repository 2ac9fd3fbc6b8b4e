# SPDX-License-Identifier: Apache-2.0
"""The inspector's routes: the page and its parts, the stream of pictures, one request, its payload, two orders.

    GET  /                                    the page (the key's form for whoever has not given it)
    GET  /assets/NAME                         one of a fixed set of files
    GET  /api/stream                          server-sent events: `whole`, then `change` twice a second
    GET  /api/snapshot                        the same once, as JSON
    GET  /api/requests/ID                     one request whole, with its failure and traceback
    GET  /api/requests/ID/payload             what it carries; 403 unless the inspector was started with payloads
    GET  /api/requests/ID/payload/PART/image  `request` or `result` as the image that it is, one of four formats
    POST /api/requests/ID/cancel | rerank     orders, where the server takes them
    POST /login                               the key -> a session

Flow:  guard.py -> **make_app** -> snapshots.py, seen/
Owns:  the files of the page, in memory: no request reaches the file system.
"""

from __future__ import annotations

import asyncio
import contextlib
import mimetypes
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from cubbyhole.inspector.guard import COOKIE
from cubbyhole.inspector.orders import address_of, give_order
from cubbyhole.seen.contents import describe_payload
from cubbyhole.seen.images import image_type, is_showable
from cubbyhole.seen.redaction import RedactionFailed, redacted

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request

    from cubbyhole.inspector.orders import GiveOrder
    from cubbyhole.inspector.snapshots import Snapshots
    from cubbyhole.seen.payloads import Payload

PAGE = "index.html"
LOGIN = "login.html"
SHOWN_BYTES = 4 << 20  # of a payload on the page; the command line shows more
BODY_BYTES_MOST = 4096
ORDERS = ("cancel", "rerank")
_NO_PAYLOADS = (
    "Payloads are hidden. Start the inspector with --payloads, or the server with inspector_payloads=True, "
    "to show what requests carry."
)


def load_assets() -> dict[str, bytes]:
    """Read the files of the page, by name."""
    folder = files("cubbyhole.inspector") / "assets"
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}


class Pages:
    """The answers."""

    def __init__(
        self, snapshots: Snapshots, assets: dict[str, bytes], *, payloads: bool, order: GiveOrder
    ) -> None:
        self._snapshots = snapshots
        self._assets = assets
        self._payloads = payloads
        self._order = order

    async def page(self, _: Request) -> Response:
        """Give the page."""
        return self._file(PAGE)

    async def login_page(self, _: Request) -> Response:
        """Ask for the key."""
        return self._file(LOGIN, 401)

    async def asset(self, request: Request) -> Response:
        """Give a file of the page."""
        name = request.path_params["name"]
        if name not in self._assets or name.endswith(".html"):
            raise HTTPException(404, "There is no such file.")
        return self._file(name)

    async def login(self, request: Request) -> Response:
        """Turn the key into a session."""
        given = await _body(request)
        session = request.scope["guard"].session_for(given.get("key"))
        if session is None:
            raise HTTPException(401, "This is not the inspector's key.")
        answer = _json({"ok": True})
        answer.set_cookie(COOKIE, session, httponly=True, samesite="strict")
        return answer

    async def stream(self, _: Request) -> Response:
        """Give pictures until the viewer leaves."""
        return StreamingResponse(self._snapshots.follow(), media_type="text/event-stream")

    async def snapshot(self, _: Request) -> Response:
        """Give one picture."""
        return _json({**self._snapshots.whole(), "payloads": self._payloads})

    async def detail(self, request: Request) -> Response:
        """Give one request whole."""
        found = self._snapshots.picture.detail(_id(request))
        if found is None:
            raise HTTPException(404, "Nothing of this request is kept: its slot was used again.")
        return _json({**found, "payloads": self._payloads})

    async def payload(self, request: Request) -> Response:
        """Give what a request carries, described."""
        payload = self._payload(request)
        statistics = "statistics" in request.query_params
        return _json({"status": payload.status, **describe_payload(payload, statistics=statistics)})

    async def image(self, request: Request) -> Response:
        """Give a payload as an image; the browser decodes it, in its sandbox, and nothing else is given as it came."""
        payload = self._payload(request)
        data = payload.request if request.path_params["part"] == "request" else payload.result
        if not data or not is_showable(data):
            raise HTTPException(415, "This is no PNG, JPEG, GIF or WebP image of a bearable size.")
        return Response(data, media_type=image_type(data))

    async def order(self, request: Request) -> Response:
        """Pass an order on to the server's supervisor."""
        given, what = await _body(request), request.path_params["what"]
        if what not in ORDERS:
            raise HTTPException(404, "There is no such order.")
        address = address_of(self._snapshots.picture.attached.description)
        if not address:
            raise HTTPException(409, "This server takes no orders.")
        priority = given.get("priority", 0)
        if not isinstance(priority, int) or not 0 <= priority <= 9:
            raise HTTPException(422, "priority must be a number from 0 (most urgent) to 9.")
        done, text = await asyncio.to_thread(self._order, address, what, _id(request), priority)
        return _json({"ok": done, "text": text}, 200 if done else 409)

    def _payload(self, request: Request) -> Payload:
        if not self._payloads:
            raise HTTPException(403, _NO_PAYLOADS)
        attached = self._snapshots.picture.attached
        payload = attached.payload(_id(request), SHOWN_BYTES)
        if payload is None:
            raise HTTPException(404, "It carries nothing any more: it was answered.")
        about = attached.description
        try:
            return redacted(payload, about.redact, about.redact_folder)
        except RedactionFailed as error:
            raise HTTPException(403, str(error)) from error

    def _file(self, name: str, status: int = 200) -> Response:
        kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
        return Response(self._assets[name], status, media_type=kind)


def make_app(
    snapshots: Snapshots, *, payloads: bool = False, order: GiveOrder = give_order
) -> Starlette:
    """Join the routes; `guard.Guard` goes around it."""
    pages = Pages(snapshots, load_assets(), payloads=payloads, order=order)
    one = "/api/requests/{id}"

    @contextlib.asynccontextmanager
    async def looking(_: Starlette) -> AsyncIterator[None]:
        task = asyncio.create_task(snapshots.run())
        try:
            yield
        finally:
            snapshots.close()
            await task

    return Starlette(
        routes=[
            Route("/", pages.page),
            Route("/login", pages.login_page),
            Route("/login", pages.login, methods=["POST"]),
            Route("/assets/{name}", pages.asset),
            Route("/api/stream", pages.stream),
            Route("/api/snapshot", pages.snapshot),
            Route(one, pages.detail),
            Route(one + "/payload", pages.payload),
            Route(one + "/payload/{part}/image", pages.image),
            Route(one + "/{what}", pages.order, methods=["POST"]),
        ],
        exception_handlers={HTTPException: _say},
        lifespan=looking,
    )


async def _say(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101  the table above says so
    return _json({"detail": error.detail}, error.status_code)


def _json(found: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(found), status, media_type="application/json")


def _id(request: Request) -> int:
    text: str = request.path_params["id"]
    if not (text.isascii() and text.isdigit() and len(text) <= 20 and 0 < int(text) < 1 << 64):
        raise HTTPException(400, "A request's id is a number of at most 20 digits.")
    return int(text)


async def _body(request: Request) -> dict[str, Any]:
    # JSON only: a form of another site cannot send it without a preflight, which nothing here answers.
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise HTTPException(415, "Send application/json.")
    data = b""
    async for part in request.stream():
        data += part
        if len(data) > BODY_BYTES_MOST:
            raise HTTPException(413, "That is too much for a key or an order.")
    try:
        found = msgspec.json.decode(data)
    except msgspec.DecodeError as error:
        raise HTTPException(400, "This is no JSON.") from error
    if not isinstance(found, dict):
        raise HTTPException(400, "Send a JSON object.")
    return found
