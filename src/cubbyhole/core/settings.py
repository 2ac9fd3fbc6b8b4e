# SPDX-License-Identifier: Apache-2.0
"""What a server was asked to be: frozen, complete, checked before the first process starts.

`LitServer` turns LitServe's parameters into these; nothing below `server.py` knows LitServe's parameter names.
"""

from __future__ import annotations

from typing import Any

import msgspec


class EndpointSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One API of the server. Its index in `ServerSettings.endpoints` is its number in the channel.

    Attributes:
        path: HTTP path of the API, starts with "/".
        workers: One device name for each worker that it may have, e.g. ("cpu", "cpu") or ("cuda:0", "cuda:1").
        min_workers: Below which it never has fewer; None: it always has all of them.
        first_workers: How many it has at the start; None: `min_workers`.
        stream: Whether answers are streams.
        max_batch_size: 1 means no batching.
        batch_timeout_s: How long a batch stays open after its first request.
        is_async: Whether the API's methods are coroutines.
        timeout_s: From the request's arrival to its answer, queueing and execution; inf for none.
        retry_on_worker_death: Run a request again elsewhere if its worker dies.
        recycle_after_requests: A worker ends, and is replaced, after about so many; None: never.
        handover: Clients on this machine may hand memory over.
    """

    path: str = "/predict"
    workers: tuple[str, ...] = ("cpu",)
    stream: bool = False
    max_batch_size: int = 1
    batch_timeout_s: float = 0.0
    is_async: bool = False
    timeout_s: float = 30.0
    retry_on_worker_death: bool = False
    recycle_after_requests: int | None = None
    handover: bool = False
    min_workers: int | None = None
    first_workers: int | None = None

    @property
    def least_workers(self) -> int:
        """How many workers it has at least."""
        return len(self.workers) if self.min_workers is None else self.min_workers


class InspectorSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The page that shows the server, on a port of its own.

    Attributes:
        port: 0 takes a free one.
        host: Address to listen on; beyond loopback only with a key.
        key: What viewers must give; None: nothing.
        payloads: Whether to show what requests carry.
    """

    port: int
    host: str = "127.0.0.1"
    key: str | None = None
    payloads: bool = False


class ServerSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole server.

    Attributes:
        endpoints: In the order of the APIs given to `LitServer`.
        channel: Name in `channels.registry`.
        slots: Requests in flight for each front.
        arena_bytes: See `ChannelSettings`.
        max_payload_bytes: Largest request body; None: what the arena can hold.
        healthcheck_path, info_path, shutdown_path: HTTP paths; shutdown_path None: no such endpoint.
        restart_workers: Start a dead worker again. Ours is on; see docs/migrating.md.
        track_requests: Count active requests.
        server_timing: Add a `Server-Timing` header: how long each request spent in each state of its entry.
        drain_timeout_s: How long accepted requests may go on after SIGTERM.
        cancel_by_id: Serve DELETE /requests/{id}, by a request's X-Request-ID.
        priorities: Clients may order their requests by the header X-Priority.
        fair_shares: What waits is served by turns of the clients' keys.
        client_key: The header, in lower case, that says whose a request is, or "address".
        queue_timeout_s, execution_timeout_s: Limits of waiting and of running, within an endpoint's `timeout_s`; inf: none of its own.
        receive_timeout_s: How long a client may take to send a request's head, and its body; inf: no limit.
        send_timeout_s: How long a client may go without taking what is sent to it; inf: no limit.
        max_queue: Requests under way over all fronts, waiting or running; None: what the slots hold.
        max_queue_bytes: Their bodies together; None: what the arena holds.
        max_queue_per_key: Requests under way of one client; None: no limit of its own.
        max_connections: Open connections over all fronts; None: what the descriptors allow.
        unready_when_full: `/health/ready` says so while a front takes no more requests.
        recycle_above_bytes: A worker with more memory of its own is replaced; None: never.
        grpc_port: Where fronts also speak the Open Inference Protocol over gRPC; None: nowhere.
        kill_cancelled_after_s: A worker that goes on for so long with nothing but cancelled requests is ended; inf: never.
        front_timeout_s: A front whose event loop stands still for so long is ended; inf: never.
        scale_up_after_s, scale_down_after_s: See `scheduling.scaling`; only where an endpoint has `min_workers`.
        otel: Send spans: to this base URL, or, empty, to where OTEL_* variables say; None: no spans.
        otel_traces_per_s: How many traces a front begins by itself; None: of every request.
        request_ids: Say in every answer of a model path which entry its request was.
        keep_requests_bytes: Memory for the last requests, bodies included; 0: none is kept.
        post_mortem: File for the supervisor's snapshots; empty: none.
        inspector: The page that shows this server; None: there is none.
        redact, redact_folder: Name ("module:function") of the hook that payloads pass before they are shown, and where its module
            lies; empty: there is none.
        model_metadata: Shown by `info_path`; JSON-able.
    """

    endpoints: tuple[EndpointSettings, ...]
    channel: str = "shm"
    slots: int = 1024
    arena_bytes: int = 1 << 30
    max_payload_bytes: int | None = None
    healthcheck_path: str = "/health"
    info_path: str = "/info"
    shutdown_path: str | None = None
    restart_workers: bool = True
    track_requests: bool = False
    server_timing: bool = False
    drain_timeout_s: float = 30.0
    priorities: bool = False
    fair_shares: bool = False
    client_key: str = "x-api-key"
    cancel_by_id: bool = False
    queue_timeout_s: float = float("inf")
    execution_timeout_s: float = float("inf")
    receive_timeout_s: float = 60.0
    send_timeout_s: float = 60.0
    max_queue: int | None = None
    max_queue_bytes: int | None = None
    max_queue_per_key: int | None = None
    max_connections: int | None = None
    unready_when_full: bool = False
    recycle_above_bytes: int | None = None
    grpc_port: int | None = None
    kill_cancelled_after_s: float = float("inf")
    front_timeout_s: float = 10.0
    scale_up_after_s: float = 1.0
    scale_down_after_s: float = 60.0
    otel: str | None = None
    otel_traces_per_s: float | None = 10.0
    request_ids: bool = False
    keep_requests_bytes: int = 0
    post_mortem: str = ""
    inspector: InspectorSettings | None = None
    redact: str = ""
    redact_folder: str = ""
    model_metadata: Any = None

    @property
    def workers_total(self) -> int:
        """Model processes over all endpoints, as many as there may be."""
        return sum(len(endpoint.workers) for endpoint in self.endpoints)

    def worker_place(self, index: int) -> tuple[int, int, str]:
        """Return (endpoint number, number within that endpoint, device) of worker `index` of the whole server."""
        for number, endpoint in enumerate(self.endpoints):
            if index < len(endpoint.workers):
                return number, index, endpoint.workers[index]
            index -= len(endpoint.workers)
        raise IndexError(f"worker {index} of {self.workers_total}")
