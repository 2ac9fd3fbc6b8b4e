# SPDX-License-Identifier: Apache-2.0
"""Options of `LitServer` for order, time, overload and supervision, which LitServe does not have.

Flow:  LitServer(**options) -> **reliability_settings** -> fields of `ServerSettings`
Owns:  nothing.
See:   docs/reliability.md
"""

from __future__ import annotations

import re
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, TypedDict

from msgspec import structs

from cubbyhole.front.options import check_port, payload_bytes, workers_of_each_api

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cubbyhole.core.settings import EndpointSettings

_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


class ReliabilityOptions(TypedDict, total=False):
    """Each may be left out.

    Attributes:
        priorities: Clients may send X-Priority, 0 (most urgent) to 9; 5 where they do not. Off: the header means nothing, so that
            no client jumps the queue of a server whose operator did not say so.
        fair_shares: What waits is served by turns of the clients, so that none waits for another's flood. A header that names them,
            such as "x-api-key" (also True), or "address". Between classes, priorities hold as without.
        cancel_by_id: Serve `DELETE /requests/{id}`, with which a client takes a request back by the X-Request-ID that it sent.
        queue_timeout: Seconds that a request may wait for a worker; 504 then.
        execution_timeout: Seconds that a worker may have it; 504 then, and a worker that hangs is ended and replaced. Both lie within
            `timeout`, which covers waiting and running together.
        receive_timeout: Seconds that a client may take to send a request's head, and again its body; 408 then. 60; False: no limit.
        send_timeout: Seconds that a client may take less than a kilobyte a second of its answer; its connection is ended then. 60;
            False: no limit.
        max_queue: Requests under way, waiting or running, over the whole server; further ones are answered 503 with the time
            after which to come again. Without it, `slots` for each front.
        max_queue_bytes: The same for the size of their bodies together: bytes, or text such as "500MB".
        max_queue_per_key: Requests under way of one client; further ones of it are answered 429. Clients are told apart by `client_key`.
        client_key: The header that says whose a request is, "x-api-key" if nothing is said; a request without it goes by its peer
            address, and all do with "address".
        max_connections: Open connections over the whole server; further ones are answered 503 and closed.
        unready_when_full: `/health/ready` is 503 while `max_queue` requests are under way, so that a balancer sends them elsewhere.
        recycle_after_requests: A worker finishes and is replaced after about so many requests (of several, each after a few per cent
            more than the one before, so that they do not end together).
        kill_cancelled_after: Seconds that a worker may go on when all that it has is cancelled; then it is ended and replaced. Without it
            nobody is ended for that: user code that never looks at `cancelled` runs to its end, for nobody.
        front_timeout: Seconds that a front's event loop may stand still until it is ended and replaced. 10; False: for ever.
        min_workers: Workers that an API has at least, over all devices; the number follows the load. An int, a list in the order of the
            APIs or a mapping of paths, as `workers_per_device`, which says how many there are at the start.
        max_workers: Workers that it has at most; without it, what `workers_per_device` gives.
        scale_up_after: Seconds that a request waits until there is a worker more. 1.
        scale_down_after: Seconds that one of the workers must have been idle until there is one less. 60.
        recycle_above: The same for a worker with more memory of its own: bytes, or text such as "2GiB". Linux.
        grpc_port: Serve APIs with an `OIPSpec` over gRPC, too, on this port of the same address. Needs `cubbyhole[grpc]`.
        handover: Clients of the same user on this machine may hand arrays over by descriptor (`cubbyhole.LocalClient`).
    """

    priorities: bool
    fair_shares: str | bool
    cancel_by_id: bool
    queue_timeout: float | None
    execution_timeout: float | None
    receive_timeout: float | bool
    send_timeout: float | bool
    max_queue: int | None
    max_queue_bytes: str | int | None
    max_queue_per_key: int | None
    client_key: str
    max_connections: int | None
    unready_when_full: bool
    recycle_after_requests: int | None
    recycle_above: str | int | None
    handover: bool
    grpc_port: int | None
    kill_cancelled_after: float | None
    front_timeout: float | bool
    min_workers: int | Sequence[int] | Mapping[str, int] | None
    max_workers: int | Sequence[int] | Mapping[str, int] | None
    scale_up_after: float
    scale_down_after: float


def reliability_settings(options: Mapping[str, Any]) -> dict[str, Any]:
    """Check the options and return the fields of `ServerSettings` that they stand for.

    Raises:
        ValueError: a value is out of range.
    """
    return {
        "priorities": bool(options.get("priorities", False)),
        **_sharing(options),
        "cancel_by_id": bool(options.get("cancel_by_id", False)),
        "queue_timeout_s": _limit_s("queue_timeout", options.get("queue_timeout")),
        "execution_timeout_s": _limit_s("execution_timeout", options.get("execution_timeout")),
        "receive_timeout_s": _limit_s("receive_timeout", options.get("receive_timeout", 60.0)),
        "send_timeout_s": _limit_s("send_timeout", options.get("send_timeout", 60.0)),
        "max_queue": _count("max_queue", options.get("max_queue")),
        "grpc_port": _grpc_port(options.get("grpc_port")),
        "kill_cancelled_after_s": _limit_s(
            "kill_cancelled_after", options.get("kill_cancelled_after")
        ),
        "front_timeout_s": _limit_s("front_timeout", options.get("front_timeout", 10.0)),
        "scale_up_after_s": _limit_s("scale_up_after", options.get("scale_up_after", 1.0)),
        "scale_down_after_s": _limit_s("scale_down_after", options.get("scale_down_after", 60.0)),
        "max_queue_bytes": _count(
            "max_queue_bytes", payload_bytes(options.get("max_queue_bytes"), "max_queue_bytes")
        ),
        "max_queue_per_key": _count("max_queue_per_key", options.get("max_queue_per_key")),
        "max_connections": _count("max_connections", options.get("max_connections")),
        "unready_when_full": bool(options.get("unready_when_full", False)),
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


def scaling(
    endpoints: tuple[EndpointSettings, ...], options: Mapping[str, Any]
) -> tuple[EndpointSettings, ...]:
    """Return the settings of all APIs, with a place for each worker that they may have.

    Raises:
        ValueError: a minimum above its maximum, or numbers that do not fit the APIs.
    """
    least, most = options.get("min_workers"), options.get("max_workers")
    if least is None and most is None:
        return endpoints
    paths = [one.path for one in endpoints]
    lows = [1] * len(paths) if least is None else workers_of_each_api(least, paths, "min_workers")
    if most is None:
        highs = [max(low, len(one.workers)) for low, one in zip(lows, endpoints, strict=True)]
    else:
        highs = workers_of_each_api(most, paths, "max_workers")
    return tuple(map(_between, endpoints, lows, highs))


def _between(endpoint: EndpointSettings, least: int, most: int) -> EndpointSettings:
    if least > most:
        raise ValueError(
            f"min_workers of {endpoint.path} is {least}, above its max_workers, which is {most}"
        )
    devices = tuple(
        dict.fromkeys(endpoint.workers)
    )  # in turn: the first few workers lie on all of them
    places = tuple(devices[number % len(devices)] for number in range(most))
    first = min(max(len(endpoint.workers), least), most)
    return structs.replace(endpoint, workers=places, min_workers=least, first_workers=first)


def _sharing(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return whether shares are fair, and by what clients are told apart."""
    shares, key = options.get("fair_shares", False), options.get("client_key")
    for name, value in (("fair_shares", shares), ("client_key", key)):
        if isinstance(value, str) and not _HEADER.fullmatch(value):
            raise ValueError(f"{name} must be the name of a header or 'address', but got {value!r}")
    if isinstance(shares, str):
        if key is not None and key.lower() != shares.lower():
            raise ValueError(
                f"fair_shares={shares!r} and client_key={key!r} tell clients apart in two ways; there is one for both."
            )
        key = shares
    return {"fair_shares": bool(shares), "client_key": (key or "x-api-key").lower()}


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
