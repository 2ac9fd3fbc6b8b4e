# SPDX-License-Identifier: Apache-2.0
"""HTTP headers -> a request's meta, what its worker is told beside the body: one pass, and nothing for a plain JSON request.

Flow:  lane.py -> **MetaReader.read** -> RequestEntry.meta;  with spans: -> tracing.py, which begins one
Owns:  nothing of a request.
See:   docs/design/request-path.md
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from cubbyhole.core.clock import NEVER_NS
from cubbyhole.core.entries import RequestMeta
from cubbyhole.front.intake import clean_id

if TYPE_CHECKING:
    from collections.abc import Callable

    from cubbyhole.core.handed import HandedMemory

NOTED = frozenset(
    (
        b"content-type",
        b"x-request-id",
        b"traceparent",
        b"tracestate",
        b"x-priority",
        b"x-request-timeout",
        b"inference-header-content-length",
    )
)
NEGOTIATED = NOTED | {b"accept"}
_PASSED = frozenset((b"inference-header-content-length", b"accept"))
_JSON = b"application/json"
_PLAIN = RequestMeta()
_encode_meta = msgspec.msgpack.Encoder().encode


class MetaReader:
    """Reads the metas of one lane's requests.

    Args:
        negotiates: The answer's form is the client's to choose.

    Attributes:
        trace: Takes scope, time of arrival and meta of a request that may get a span, and returns the meta for its worker. None:
            nothing here has spans.
        trace_from_ns: From then on also a request whose client wants none may get a span (monotonic).
    """

    def __init__(self, *, negotiates: bool) -> None:
        self._noted = NEGOTIATED if negotiates else NOTED
        self.trace: Callable[[Any, int, RequestMeta], RequestMeta] | None = None
        self.trace_from_ns = NEVER_NS

    def read(
        self, scope: Any, received_ns: int, handed: HandedMemory | None = None
    ) -> tuple[bytes, dict[bytes, bytes] | None]:
        """Look at the headers, once.

        Args:
            scope: ASGI scope.
            received_ns: When the request came.
            handed: Memory that came beside the request.

        Returns:
            What a worker needs beside the body, encoded; empty for a plain JSON request. And the headers with which a client asks for
            an order or a time (`wishes.py`), None without any.
        """
        wishes: dict[bytes, bytes] | None = None
        content_type = request_id = traceparent = tracestate = b""
        passed: list[tuple[str, str]] = []
        noted = self._noted
        for name, value in scope["headers"]:
            if name in noted:
                if name == b"content-type":
                    if not value.startswith(_JSON):
                        content_type = value
                elif name == b"traceparent":
                    traceparent = value
                elif name == b"tracestate":
                    tracestate = value
                elif name == b"x-request-id":
                    request_id = clean_id(value)
                elif name in _PASSED:
                    passed.append((name.decode("latin-1"), value.decode("latin-1")))
                else:
                    wishes = {**(wishes or {}), name: value}
        query = scope["query_string"]
        plain = not (content_type or query or request_id or traceparent or passed or handed)
        if plain and received_ns < self.trace_from_ns:
            return b"", wishes
        meta = RequestMeta(
            content_type=content_type.decode("latin-1"),
            query=query.decode("latin-1"),
            headers=passed,
            request_id=request_id.decode("latin-1"),
            traceparent=traceparent.decode("latin-1"),
            handed=handed,
            tracestate=tracestate.decode("latin-1"),  # without a traceparent it means nothing
        )
        return self._encode(scope, received_ns, meta), wishes

    def _encode(self, scope: Any, received_ns: int, meta: RequestMeta) -> bytes:
        if self.trace is not None:
            meta = self.trace(scope, received_ns, meta)
        return b"" if meta == _PLAIN else _encode_meta(meta)
