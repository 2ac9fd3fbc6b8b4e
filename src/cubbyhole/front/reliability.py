# SPDX-License-Identifier: Apache-2.0
"""Options of `LitServer` for order, time, overload and supervision, which LitServe does not have.

Flow:  LitServer(**options) -> **reliability_settings** -> fields of `ServerSettings`
Owns:  nothing.
See:   docs/reliability.md
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, TypedDict

from msgspec import structs

from cubbyhole.front.options import check_port, payload_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cubbyhole.core.settings import EndpointSettings


class ReliabilityOptions(TypedDict, total=False):
    """Each may be left out.

    Attributes:
        priorities: Clients may send X-Priority, 0 (most urgent) to 9; 5 where they do not. Off: the header means nothing, so that
            no client jumps the queue of a server whose operator did not say so.
        cancel_by_id: Serve `DELETE /requests/{id}`, with which a client takes a request back by the X-Request-ID that it sent.
        queue_timeout: Seconds that a request may wait for a worker; 504 then.
        execution_timeout: Seconds that a worker may have it; 504 then, and a worker that hangs is ended and replaced. Both lie within
            `timeout`, which covers waiting and running together.
        receive_timeout: Seconds that a client may take to send a request's head, and again its body; 408 then. 60; False: no limit.
        max_queue: Requests under way, waiting or running, over the whole server; further ones are answered 503 with the time
            after which to come again. Without it, `slots` for each front.
        recycle_after_requests: A worker finishes and is replaced after about so many requests (of several, each after a few per cent
            more than the one before, so that they do not end together).
        recycle_above: The same for a worker with more memory of its own: bytes, or text such as "2GiB". Linux.
        grpc_port: Serve APIs with an `OIPSpec` over gRPC, too, on this port of the same address. Needs `cubbyhole[grpc]`.
        handover: Clients of the same user on this machine may hand arrays over by descriptor (`cubbyhole.LocalClient`).
    """

    priorities: bool
    cancel_by_id: bool
    queue_timeout: float | None
    execution_timeout: float | None
    receive_timeout: float | bool
    max_queue: int | None
    recycle_after_requests: int | None
    recycle_above: str | int | None
    handover: bool
    grpc_port: int | None


def reliability_settings(options: Mapping[str, Any]) -> dict[str, Any]:
    """Check the options and return the fields of `ServerSettings` that they stand for.

    Raises:
        ValueError: a value is out of range.
    """
    return {
        "priorities": bool(options.get("priorities", False)),
        "cancel_by_id": bool(options.get("cancel_by_id", False)),
        "queue_timeout_s": _limit_s("queue_timeout", options.get("queue_timeout")),
        "execution_timeout_s": _limit_s("execution_timeout", options.get("execution_timeout")),
        "receive_timeout_s": _limit_s("receive_timeout", options.get("receive_timeout", 60.0)),
        "max_queue": _count("max_queue", options.get("max_queue")),
        "grpc_port": _grpc_port(options.get("grpc_port")),
        "recycle_above_bytes": payload_bytes(options.get("recycle_above"), "recycle_above"),
    }


def recycling(
    endpoints: tuple[EndpointSettings, ...], options: Mapping[str, Any]
) -> tuple[EndpointSettings, ...]:
    """Return the settings of all APIs, with the requests after which their workers are replaced, and whether memory is handed over."""
    name = "recycle_after_requests"
    count = _count(name, options.get(name))
    handover = bool(options.get("handover", False))
    return tuple(
        structs.replace(one, recycle_after_requests=count, handover=handover) for one in endpoints
    )


def _limit_s(name: str, value: Any) -> float:
    if value is None or value is False:
        return float("inf")
    if not float(value) > 0:
        raise ValueError(f"{name} must be seconds above 0, but got {value}")
    return float(value)


def _count(name: str, value: Any) -> int | None:
    if value is not None and (not isinstance(value, int) or value < 1):
        raise ValueError(f"{name} must be an integer >= 1, but got {value}")
    return value


def _grpc_port(value: Any) -> int | None:
    if value is None:
        return None
    if find_spec("grpc") is None or find_spec("google.protobuf") is None:
        raise ValueError(
            "grpc_port needs grpcio and protobuf, which are not installed: pip install 'cubbyhole[grpc]'."
        )
    if value == 0:
        raise ValueError("grpc_port must be a port of your choice: all fronts listen on it.")
    return check_port(value)
