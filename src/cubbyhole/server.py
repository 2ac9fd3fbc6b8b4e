# SPDX-License-Identifier: Apache-2.0
"""`LitServer`: LitServe's parameters -> frozen `ServerSettings`, and the app that fronts serve.

Flow:  LitServer() -> checks -> settings, desk, app;  run() -> wiring.serve -> fronts and workers
Owns:  `app`. Processes are the supervisor's.
See:   docs/migrating.md for every difference from LitServe
"""

from __future__ import annotations

import os
from functools import cached_property
from typing import TYPE_CHECKING, Any

import msgspec

from cubbyhole._deprecated import apply_moved
from cubbyhole.api.callbacks import Callback, CallbackRunner
from cubbyhole.core.errors import WorkerFailedToStart
from cubbyhole.core.settings import ServerSettings
from cubbyhole.front import apis, keys, options
from cubbyhole.front.client_file import write_client_file
from cubbyhole.front.desk import Desk, Place
from cubbyhole.front.extras import check_names
from cubbyhole.front.inspection import inspection_settings
from cubbyhole.front.reliability import recycling, reliability_settings, scaling
from cubbyhole.front.reply import data_streamer
from cubbyhole.front.tls import options_from_environment
from cubbyhole.front.visibility import visibility_settings
from cubbyhole.observe import log
from cubbyhole.supervise.devices import choose_accelerator, device_identifiers, list_devices

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from fastapi import FastAPI
    from typing_extensions import Unpack

    from cubbyhole.api.lit_api import LitAPI
    from cubbyhole.channels.base import Channel
    from cubbyhole.core.roster import Roster
    from cubbyhole.front.extras import ExtraOptions

# Read at import and looked up at each use: tests of users assign them.
LIT_SERVER_API_KEY = os.environ.get("LIT_SERVER_API_KEY")
SHUTDOWN_API_KEY = os.environ.get("LIT_SHUTDOWN_API_KEY")

FAILED_TO_START = "One or more workers failed to start. Shutting down LitServe"


class LitServer:
    """A server for one or several LitAPIs. Parameters up to `restart_workers` are LitServe's, in its order.

    Args:
        lit_api: A LitAPI, or several with different paths.
        accelerator: "auto", "cpu", "cuda", "mps" or "gpu".
        devices: How many, or which, or "auto".
        workers_per_device: One number, a list in the order of the APIs, or a mapping of paths.
        timeout: Seconds from a request's arrival to its answer, waiting and running; False or -1: no limit.
        healthcheck_path, info_path, shutdown_path: HTTP paths; the last only with `enable_shutdown_api`.
        model_metadata: Shown by `info_path`; JSON-able.
        max_payload_size: Largest request body in bytes, or text like "100MB"; None: what the channel can hold.
        track_requests: Count the open requests: `active_requests`.
        callbacks, middlewares, loggers: As in LitServe. `fast_queue` is accepted and means nothing.
        disable_openapi_url: Serve no OpenAPI document and none of its pages.
        restart_workers: Start a worker again that died. Off: the server ends with it.
        channel: How entries travel: a name in `channels.registry`.
        slots: Requests in flight for each front; further ones are answered 503 at once.
        arena_bytes: Room for bodies; memory is used only as far as it is touched.
        server_timing: Say in a `Server-Timing` header how long each request was in each state.
        **extras: Order, time and overload: see `front.reliability.ReliabilityOptions`. Seeing: `front.visibility.VisibilityOptions`
            and `front.inspection.InspectionOptions`.
        spec, max_batch_size, batch_timeout, stream, api_path, loop: Deprecated: they belong to the LitAPI.
    """

    def __init__(  # noqa: PLR0913, PLR0917  (LitServe's signature)
        self,
        lit_api: LitAPI | Iterable[LitAPI],
        accelerator: str | None = "auto",
        devices: str | int | list[int] = "auto",
        workers_per_device: int | Sequence[int] | Mapping[str, int] = 1,
        timeout: float | bool = 30,
        healthcheck_path: str = "/health",
        info_path: str = "/info",
        shutdown_path: str = "/shutdown",
        enable_shutdown_api: bool = False,
        model_metadata: dict[str, Any] | None = None,
        spec: Any = None,
        max_payload_size: str | float | None = None,
        track_requests: bool = False,
        callbacks: list[Callback] | Callback | None = None,
        middlewares: list[Any] | None = None,
        loggers: Any = None,
        fast_queue: bool = False,
        disable_openapi_url: bool = False,
        max_batch_size: int | None = None,
        batch_timeout: float = 0.0,
        stream: bool = False,
        api_path: str | None = None,
        loop: Any = None,
        restart_workers: bool = True,
        *,
        channel: str = "shm",
        slots: int = 1024,
        arena_bytes: int = 1 << 30,
        server_timing: bool = False,
        **extras: Unpack[ExtraOptions],
    ) -> None:
        self.lit_api = lit_api
        self.lit_apis = apis.list_apis(lit_api)
        moved = {"max_batch_size": max_batch_size, "batch_timeout": batch_timeout, "stream": stream}
        apply_moved(self.lit_apis, {**moved, "api_path": api_path, "loop": loop, "spec": spec})
        self.timeout = timeout
        self.healthcheck_path, self.info_path = healthcheck_path, info_path
        self.shutdown_path = shutdown_path if enable_shutdown_api else None
        self.model_metadata = options.check_metadata(model_metadata)
        self.max_payload_size, self.track_requests = max_payload_size, track_requests
        self.restart_workers, self.workers_per_device = restart_workers, workers_per_device
        self.callbacks = options.list_callbacks(callbacks)
        self.middlewares = options.check_middlewares(middlewares)
        self.loggers = options.list_loggers(loggers)
        self.fast_queue = options.check_fast_queue(fast_queue)
        self.monitor_internal, self.uvicorn_graceful_timeout = 2, 30
        self.inference_workers: list[Any] = []
        self.devices = list_devices(choose_accelerator(accelerator), devices)
        self._running: Any = None
        sizes = {"channel": channel, "slots": slots, "arena_bytes": arena_bytes}
        self.settings = self._settings({**sizes, "server_timing": server_timing}, extras)
        self._check_keys()
        self._openapi_url = None if disable_openapi_url else "/openapi.json"
        runner = CallbackRunner(self.callbacks)
        self.desk = Desk(self.settings, self, self.lit_apis, runner, lambda: LIT_SERVER_API_KEY)
        for _ in self.lit_apis:
            runner.trigger_event("on_server_start", litserver=self)

    @property
    def active_requests(self) -> int | None:
        """Open requests over all fronts; None without `track_requests`."""
        return self.desk.active_requests()

    @property
    def workers_setup_status(self) -> dict[str, str]:
        """LitServe's word for the state of each worker ("starting", "ready", "error", "finished"), by path and number."""
        return self.desk.worker_states()

    def setup_auth(self, lit_api: LitAPI | None = None) -> Callable[..., Any]:
        """Return the FastAPI dependency that guards an API: its own `authorize`, else the API key."""
        from cubbyhole.front import auth

        own: Callable[..., Any] | None = getattr(lit_api, "authorize", None)
        return (
            own if callable(own) else auth.key_dependency(self.desk.read_api_key, self.desk.reject)
        )

    def register_endpoints(self) -> None:
        """Make `app` with all its routes, unless it is made already."""
        _ = self.app

    def attach(self, channel: Channel, roster: Roster) -> None:
        """Have `app` open front 0 of this channel when its lifespan starts: for tests in one process."""
        self.desk.place = Place(0, channel, roster)

    def launch_inference_worker(self, lit_api: LitAPI) -> list[Any]:  # noqa: ARG002
        """Start the workers of all APIs, unless they run, and attach `app` to them. For tests; `run` does it by itself."""
        if self._running is None:
            from cubbyhole import wiring

            self._running = wiring.launch(self, self.settings)
            self._running.__enter__()
            self.attach(self._running.channel, self._running.roster)
        return self.inference_workers

    def launch_single_inference_worker(self, lit_api: LitAPI, worker_id: int) -> Any:  # noqa: ARG002
        """As `launch_inference_worker`: the workers of a server are started together."""
        return self.launch_inference_worker(lit_api)

    def verify_worker_status(self) -> None:
        """Wait until the workers of `launch_inference_worker` are ready; RuntimeError if one cannot start."""
        try:
            self._running.wait_ready()
        except WorkerFailedToStart as error:
            raise RuntimeError(FAILED_TO_START) from error

    def stop_inference_workers(self) -> None:
        """End what `launch_inference_worker` started."""
        if self._running is not None:
            running, self._running = self._running, None
            running.__exit__(None, None, None)
            self.desk.place = None

    def run(
        self,
        host: str = "127.0.0.1",
        port: str | int = 8000,
        num_api_servers: int | None = None,
        log_level: str = "info",
        generate_client_file: bool = False,
        api_server_worker_type: str | None = "process",
        pretty_logs: bool = False,
        **kwargs: Any,
    ) -> None:
        """Serve until SIGTERM or Ctrl-C.

        Args:
            host: Address to listen on; "0.0.0.0" for all of this machine's.
            port: 1024 to 65535, or 0 for a free one.
            num_api_servers: HTTP processes; None: as many as are useful.
            log_level: Of Cubbyhole's and uvicorn's records.
            generate_client_file: Write `client.py` into the current folder unless it exists.
            api_server_worker_type: "process" or "thread"; fronts are processes either way.
            pretty_logs: Records through rich.
            **kwargs: For `uvicorn.Config`, and two of ours (docs/guide/logs.md): `log_format="json"`, one object a line, also for
                records of uvicorn's and of your own; `access_log=True`, a line for each request.
        """
        from cubbyhole import (
            wiring,
        )  # with uvicorn's and the supervisor's modules: only who runs pays for them

        port_number = options.check_port(port)
        options.check_run(host, num_api_servers, api_server_worker_type)
        if generate_client_file:
            self.generate_client_file(port_number)
        log_format = log.check_format(kwargs.pop("log_format", "text"))
        drain_s = kwargs.pop("timeout_graceful_shutdown", self.uvicorn_graceful_timeout)
        wiring.serve(
            self,
            msgspec.structs.replace(self.settings, drain_timeout_s=float(drain_s)),
            host=host,
            port=port_number,
            num_api_servers=num_api_servers,
            log_level=log_level,
            log_format="pretty" if pretty_logs else log_format,
            uvicorn_options=options_from_environment(kwargs),
        )

    generate_client_file = staticmethod(write_client_file)
    data_streamer = staticmethod(data_streamer)
    device_identifiers = staticmethod(device_identifiers)

    def _settings(self, ours: dict[str, Any], extras: Mapping[str, Any]) -> ServerSettings:
        check_names(extras)
        for name in ("healthcheck_path", "info_path", "shutdown_path"):
            options.check_path(name, getattr(self, name) or "/")
        apis.prepare(self.lit_apis, self.timeout)
        endpoints = apis.endpoint_settings(
            self.lit_apis, self.devices, self.workers_per_device, self.timeout
        )
        return ServerSettings(
            endpoints=scaling(recycling(endpoints, extras), extras),
            max_payload_bytes=options.payload_bytes(self.max_payload_size),
            healthcheck_path=self.healthcheck_path,
            info_path=self.info_path,
            shutdown_path=self.shutdown_path,
            restart_workers=self.restart_workers,
            track_requests=self.track_requests,
            model_metadata=self.model_metadata,
            **ours,
            **reliability_settings(extras),
            **visibility_settings(extras),
            **inspection_settings(extras),
        )

    def _check_keys(self) -> None:
        keys.check_keys(
            LIT_SERVER_API_KEY=LIT_SERVER_API_KEY, LIT_SHUTDOWN_API_KEY=SHUTDOWN_API_KEY
        )
        if self.shutdown_path is not None:
            self._generated_key = keys.shutdown_key(SHUTDOWN_API_KEY, self.shutdown_path)

    @cached_property
    def app(self) -> FastAPI:
        """The FastAPI app behind the fast lane, open for routes, mounts and middlewares of the user's.

        Made when first looked at, in `run` once the workers are on their way: importing FastAPI takes as long as they do.
        """
        from cubbyhole.front.assembly import assemble

        app, self.own_middlewares = assemble(
            self.desk,
            self._openapi_url,
            guard=self.setup_auth,
            middlewares=self.middlewares,
            loggers=self.loggers,
            read_shutdown_key=lambda: SHUTDOWN_API_KEY or self._generated_key,
        )
        return app
