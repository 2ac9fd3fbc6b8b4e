# SPDX-License-Identifier: Apache-2.0
"""Which kind of lane a server's options need: what is switched off is not in it, and costs nothing.

    Lane -> LimitedLane (shares, limits by client and bytes) -> KeepingLane (requests for replay) -> LoggedLane (lines of the access log)
    -> TracedLane (spans, for some requests)

Flow:  routes.py, handover.py, grpc_service.py -> **kind_of_lane**
Owns:  nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cubbyhole.front.lane import Lane
from cubbyhole.front.turnstile import LimitedLane

if TYPE_CHECKING:
    from cubbyhole.core.settings import ServerSettings
    from cubbyhole.front.access import AccessLog
    from cubbyhole.front.meta import MetaReader


def kind_of_lane(
    settings: ServerSettings,
    *,
    by_http: bool = True,
    reader: type[MetaReader] | None = None,
    access_log: AccessLog | None = None,
) -> type[Lane]:
    """Return the lane's class.

    Args:
        settings: The server's.
        by_http: Requests come by HTTP. Others are not kept: they could not be sent again as they came.
        reader: As `Lane.reader`; None: that of HTTP.
        access_log: Where its requests are to be noted; None: nowhere, or somebody else does it.
    """
    limits = (settings.max_queue_per_key, settings.max_queue_bytes)
    limited = settings.fair_shares or any(limit is not None for limit in limits)
    kind: type[Lane] = LimitedLane if limited else Lane
    if reader is not None:
        kind = type(f"Other{kind.__name__}", (kind,), {"reader": reader})
    if settings.keep_requests_bytes and by_http:
        from cubbyhole.front.keeping import keeping

        kind = keeping(kind)
    if access_log is not None:
        from cubbyhole.front.access import logged

        kind = logged(kind, access_log)
    if settings.otel is not None:
        from cubbyhole.front.tracing import traced

        kind = traced(kind)
    return kind
