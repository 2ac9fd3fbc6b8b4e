# SPDX-License-Identifier: Apache-2.0
"""Who may look: the page's key, and what browsers must not be talked into.

    beyond loopback     only with a key, compared in constant time; without one the inspector does not start
    without a key       the other end must be a process of the same user, as the kernel tells (peers.py); a Unix socket has mode 0600
    on loopback         the Host must be this machine's name, so that a foreign name that resolves to it (DNS rebinding) is refused
    everywhere          a request that another site's page makes is refused (Origin, Sec-Fetch-Site); no CORS header is ever sent
    every answer        a content security policy under which nothing is loaded from elsewhere, nosniff, no framing, no caching

Flow:  uvicorn -> **Guard** -> app.py
Owns:  the session of browsers that gave the key: one random word for as long as the process lives.
"""

from __future__ import annotations

import hmac
import os
import secrets
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING, Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, Response

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
COOKIE = "cubbyhole_inspector"
OPEN_PATHS = (
    "/assets/",
    "/login",
)  # what a browser needs to ask for the key; nothing of a server is in it


class Guard:
    """ASGI: lets through who may look.

    Args:
        app: What is guarded.
        key: None: everybody who reaches it may look.
        names: Hosts that a browser may call it by; None: any, as the key guards it.
        uid_of_peer: Tells whose process is at the other end of (client, server); None: not asked.
    """

    def __init__(
        self,
        app: ASGIApp,
        key: str | None = None,
        names: frozenset[str] | None = LOOPBACK_NAMES,
        uid_of_peer: Callable[[tuple[str, int], tuple[str, int]], int | None] | None = None,
    ) -> None:
        self._app = app
        self._key = key
        self._names = names
        self._uid_of_peer = uid_of_peer
        self._session = secrets.token_urlsafe(32)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or pass it on."""
        if scope["type"] != "http":  # a page without websockets gets none
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        answer = self._refuse(scope)
        scope["guard"] = self
        await (answer or self._app)(scope, receive, send_guarded)

    def session_for(self, key: Any) -> str | None:
        """Return the session's word for whoever has the key."""
        return self._session if self._is_key(key) else None

    def _is_key(self, key: Any) -> bool:
        if self._key is None or not isinstance(key, str):
            return False
        return hmac.compare_digest(key.encode(), self._key.encode())

    def _refuse(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
        if self._names is not None and name.lower() not in self._names:
            return _refusal(
                421, f"This inspector is not called {name[:100]!r}. Open it as localhost."
            )
        if self._is_stranger(scope):
            return _refusal(
                403,
                "Without a key only processes of the same user may look. Start the inspector with a key.",
            )
        path = scope["path"]
        if _is_foreign(headers, host) and not (path == "/" and "origin" not in headers):
            return _refusal(403, "Requests of other sites' pages are refused.")
        if self._key is None or path.startswith(OPEN_PATHS) or self._is_known(headers):
            return None
        if path == "/":
            scope["path"] = "/login"  # the same address shows the page once the key was given
            return None
        return _refusal(401, "Not authenticated: give the inspector's key as X-API-Key.")

    def _is_stranger(self, scope: Scope) -> bool:
        if self._key is not None or self._uid_of_peer is None:
            return False
        client, server = scope.get("client"), scope.get("server")
        if not client or not server:
            return True
        return self._uid_of_peer(tuple(client), tuple(server)) not in (os.geteuid(), 0)

    def _is_known(self, headers: Headers) -> bool:
        if self._is_key(headers.get("x-api-key")):
            return True
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            return False
        return cookie is not None and hmac.compare_digest(
            cookie.value.encode(), self._session.encode()
        )


def _is_foreign(headers: Headers, host: str) -> bool:
    """Return whether another site's page made the request; a link to ours, which is harmless, has no Origin."""
    origin = headers.get("origin")
    if origin is not None and origin.partition("://")[2] != host:
        return True
    return headers.get("sec-fetch-site", "none") not in ("none", "same-origin")


def _refusal(status: int, text: str) -> Response:
    return JSONResponse({"detail": text}, status)
