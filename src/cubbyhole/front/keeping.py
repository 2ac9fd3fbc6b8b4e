# SPDX-License-Identifier: Apache-2.0
"""A lane's part that keeps requests for replay, for servers with `keep_requests`; others do not have it.

A request is kept when it is submitted, so that one that hangs or kills everything around it is there, too; when it has failed, it
is kept once more where the next good ones do not push it out.

Flow:  lanes.kind_of_lane -> **keeping(Lane)** -> core/kept.py
Owns:  the body of each request under way, once more: until its answer is known.
See:   core/kept.py
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import msgspec

from cubbyhole.core.kept import KeptRequest
from cubbyhole.front.intake import client_id, header

if TYPE_CHECKING:
    from cubbyhole.core.entries import Buffer, Failure
    from cubbyhole.front.exchange import Exchange, Waiter
    from cubbyhole.front.lane import Lane
    from cubbyhole.front.reply import Headers

FAILED_FROM = 400  # also what the client did wrong: that is asked about most


def keeping(base: type[Lane]) -> type[Lane]:
    """Return a kind of lane that also keeps what it submits."""

    class KeepingLane(base):  # type: ignore[valid-type, misc]  # a class made for the options of a server
        """See the module."""

        def _submit(
            self,
            exchange: Exchange,
            scope: Any,
            body: Buffer,
            meta: bytes,
            wishes: dict[bytes, bytes] | None,
            received_ns: int,
            receive: Any,
        ) -> Waiter:
            place, kept = self._desk.place, self._desk.kept
            copy = None
            if (
                place is not None
                and kept is not None
                and len(memoryview(body)) <= kept.limit_bytes(place.index)
            ):
                copy = bytes(
                    body
                )  # before the channel has it: a reservation is not ours any more then
            waiter: Waiter = super()._submit(
                exchange, scope, body, meta, wishes, received_ns, receive
            )
            if copy is not None and place is not None and kept is not None:
                request = _request(scope, waiter.id, copy)
                kept.keep(place.index, request)
                waiter.kept = request
            return waiter

        async def _fail_entry(
            self,
            scope: Any,
            send: Any,
            waiter: Waiter,
            collected: Any,
            failure: Failure,
            extra: Headers,
        ) -> None:
            place, kept = self._desk.place, self._desk.kept
            if (
                waiter.kept is not None
                and failure.status >= FAILED_FROM
                and place is not None
                and kept is not None
            ):
                kept.keep(place.index, msgspec.structs.replace(waiter.kept, status=failure.status))
            await super()._fail_entry(scope, send, waiter, collected, failure, extra)

    return KeepingLane


def _request(scope: Any, request_id: int, body: bytes) -> KeptRequest:
    headers = scope["headers"]
    return KeptRequest(
        id=request_id,
        request_id=client_id(headers).decode(),
        method=scope["method"],
        path=scope["path"],
        query=scope["query_string"].decode("latin-1"),
        content_type=(header(headers, b"content-type") or b"").decode("latin-1"),
        body=body,
        received_at_s=time.time(),
    )
