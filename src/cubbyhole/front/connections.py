# SPDX-License-Identifier: Apache-2.0
"""How many connections a front keeps open: one more is told so, and closed.

uvicorn's `limit_concurrency` counts connections and running requests, and looks only when a request has come: who opens connections
and says nothing is not bounded by it. This looks when a connection is made, before a byte of it is read.

Flow:  front/main.py -> **bounded_protocol** -> uvicorn, for each connection
Owns:  nothing; the set of connections is uvicorn's.
See:   docs/guide/failures.md; times.py for connections that are open, but too slow
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.importer import import_from_string

PROTOCOLS = {
    "httptools": "uvicorn.protocols.http.httptools_impl:HttpToolsProtocol",
    "h11": "uvicorn.protocols.http.h11_impl:H11Protocol",
}
_BODY = b'{"detail":"The server has as many connections open as it takes. Try again later."}'
REFUSAL = (
    b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\ncontent-type: application/json\r\nconnection: close\r\n"
    b"content-length: %d\r\n\r\n%b" % (len(_BODY), _BODY)
)
LINGER_S = 2.0  # for a request that is on its way already: closing at once would reset the connection, and the answer with it


class _Refusing(asyncio.Protocol):
    """Reads and drops what comes, until the client closes or its time is over."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._timer = asyncio.get_running_loop().call_later(LINGER_S, transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  (asyncio's name)
        self._timer.cancel()


def bounded_protocol(http: Any, limit: int) -> Any:
    """Return uvicorn's protocol class with a bound.

    Args:
        http: As for `uvicorn.Config`: a name of `PROTOCOLS` or a class.
        limit: Connections that are open at a time.
    """
    base: Any = import_from_string(PROTOCOLS.get(http, http)) if isinstance(http, str) else http

    def connection_made(self: Any, transport: asyncio.Transport) -> None:
        if len(self.connections) < limit:
            base.connection_made(self, transport)
            return
        transport.set_protocol(_Refusing(transport))
        transport.write(REFUSAL)
        if transport.can_write_eof():
            transport.write_eof()

    return type("Bounded" + base.__name__, (base,), {"connection_made": connection_made})
