# SPDX-License-Identifier: Apache-2.0
"""The Open Inference Protocol over gRPC, for `LitServer(grpc_port=...)` with APIs that have an `OIPSpec`. Needs `cubbyhole[grpc]`.

Each call becomes the same entry as a request by HTTP: its key (metadata `x-api-key`), limits, deadline (the RPC's) and failure record
are those. An RPC that its client cancels takes its request back.

Flow:  grpc.aio -> **Inference** -> oip_grpc.py (a body) -> calls.py -> Lane.answer -> oip_grpc.py -> ModelInferResponse
Owns:  a gRPC server in the front's event loop; all fronts listen on one port.
See:   docs/guide/clients.md
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import grpc
import grpc.aio
import msgspec

from cubbyhole.core.errors import HTTPError
from cubbyhole.front.calls import Question, call
from cubbyhole.front.keys import refuse_key
from cubbyhole.front.lanes import kind_of_lane
from cubbyhole.specs.oip import HEADER, OIPSpec
from cubbyhole.specs.oip_grpc import MESSAGES, answer_of, body_of, handlers, metadata_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from cubbyhole.front.desk import Desk

logger = logging.getLogger(__name__)

DRAIN_S = 25.0  # for calls under way at SIGTERM; fronts have about 30
_PASSED = (
    *("x-api-key", "x-request-id", "x-priority", "x-request-timeout"),
    *("traceparent", "tracestate"),
)
_CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    408: grpc.StatusCode.DEADLINE_EXCEEDED,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    415: grpc.StatusCode.INVALID_ARGUMENT,
    422: grpc.StatusCode.INVALID_ARGUMENT,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    499: grpc.StatusCode.CANCELLED,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}


class Refused(Exception):
    """A call ends with this status."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.code = _CODES.get(status, grpc.StatusCode.INTERNAL)


class Model:
    """What is served under one name: its spec, and the lane to it."""

    def __init__(self, desk: Desk, number: int, spec: OIPSpec) -> None:
        self.spec = spec
        self.path = desk.settings.endpoints[number].path
        self.lane = kind_of_lane(desk.settings, by_http=False)(
            desk, number, guarded=True, compressed=False, inside_fastapi=False
        )


class Inference:
    """The methods of the service, by the protocol's names.

    Args:
        desk: The server's.
        is_ready: Whether all workers are ready.
    """

    def __init__(self, desk: Desk, is_ready: Callable[[], bool]) -> None:
        self._desk = desk
        self._is_ready = is_ready
        self._passed = frozenset((*_PASSED, desk.settings.client_key))
        self._models = {
            lit_api.spec.name: Model(desk, number, lit_api.spec)
            for number, lit_api in enumerate(desk.lit_apis)
            if isinstance(lit_api.spec, OIPSpec)
            and not callable(getattr(lit_api, "authorize", None))
        }

    async def ServerLive(self, _request: Any, _context: Any) -> Any:  # noqa: N802
        """Whether the server answers; it does."""
        return MESSAGES["ServerLiveResponse"](live=True)

    async def ServerReady(self, _request: Any, _context: Any) -> Any:  # noqa: N802
        """Whether all workers are ready."""
        return MESSAGES["ServerReadyResponse"](ready=self._is_ready())

    async def ModelReady(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Whether a model's workers are ready: those of all, as for HTTP."""
        await self._answered(context, self._known(request.name, request.version))
        return MESSAGES["ModelReadyResponse"](ready=self._is_ready())

    async def ServerMetadata(self, _request: Any, context: Any) -> Any:  # noqa: N802
        """What the server is."""
        from cubbyhole import __version__

        await self._answered(context, self._allowed(context))
        return MESSAGES["ServerMetadataResponse"](name="cubbyhole", version=__version__)

    async def ModelMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802
        """What a model takes and gives."""
        await self._answered(context, self._allowed(context))
        model = await self._answered(context, self._known(request.name, request.version))
        return metadata_of(model.spec.metadata())

    async def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Run a model."""
        return await self._answered(context, self._infer(request, context))

    async def ModelStreamInfer(self, requests: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802
        """Run a model for each request of a stream, in order; one that fails does not end the stream."""
        async for request in requests:
            try:
                answer = await self._infer(request, context)
            except Refused as error:
                yield MESSAGES["ModelStreamInferResponse"](error_message=str(error))
            else:
                yield MESSAGES["ModelStreamInferResponse"](infer_response=answer)

    @staticmethod
    async def _answered(context: Any, work: Any) -> Any:
        try:
            return await work
        except Refused as error:
            await context.abort(error.code, str(error))

    async def _allowed(self, context: Any) -> None:
        key = self._desk.read_api_key()
        if key is None:
            return
        headers = [
            (name.encode(), value.encode())
            for name, value in context.invocation_metadata() or ()
            if isinstance(value, str)
        ]
        failure = refuse_key(key, headers)
        if failure is not None:
            raise Refused(failure.status, str(failure.detail))

    async def _known(self, name: str, version: str) -> Model:
        model = self._models.get(name)
        if model is None or version not in {"", model.spec.version}:
            raise Refused(404, f"There is no model {name[:64]!r} of version {version[:64]!r}.")
        return model

    async def _infer(self, request: Any, context: Any) -> Any:
        model = await self._known(request.model_name, request.model_version)
        try:
            parts, head_bytes = body_of(request)
        except HTTPError as error:
            raise Refused(error.status_code, str(error.detail)) from error
        headers = {
            name: value
            for name, value in context.invocation_metadata() or ()
            if name in self._passed and isinstance(value, str)
        }
        headers |= {"content-type": "application/octet-stream", HEADER: str(head_bytes)}
        left_s = context.time_remaining()
        if left_s is not None and "x-request-timeout" not in headers:
            headers["x-request-timeout"] = f"{max(left_s, 0.001):.3f}"
        # A client that cancels has this task cancelled, and the lane takes the request back.
        client = (_address_of(context.peer()), 0)
        question = Question(model.path, b"".join(parts), headers, {"client": client})
        answered = await call(model.lane, question, asyncio.Event())
        if answered is None:
            raise Refused(499, "The client left.")
        if answered.status != 200:
            raise Refused(answered.status, _text_of(answered.body))
        return answer_of(answered.body, int(answered.headers[HEADER]))


def _address_of(peer: str) -> str:
    """Return a peer's address as HTTP's clients have it: "ipv4:127.0.0.1:50123" and "ipv6:%5B::1%5D:50123" without kind and port."""
    host, _, _ = unquote(peer).partition(":")[2].rpartition(":")
    return host.strip("[]") or peer


def _text_of(body: Any) -> str:
    try:
        said = msgspec.json.decode(bytes(body))
        return str(said.get("error", said.get("detail", said)))
    except (msgspec.DecodeError, AttributeError):
        return "The request failed."


def grpc_lifespan(desk: Desk, host: str, port: int, is_ready: Callable[[], bool]) -> Any:
    """Return a lifespan in which a front serves gRPC too.

    Args:
        desk: The server's.
        host: Address to listen on, as HTTP's.
        port: Shared by all fronts.
        is_ready: Whether all workers are ready.
    """

    @asynccontextmanager
    async def lifespan(_app: Any) -> AsyncIterator[None]:
        limit = desk.settings.max_payload_bytes or desk.settings.arena_bytes
        limit = min(limit, (1 << 31) - 1)
        options = [
            ("grpc.max_receive_message_length", limit),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 1),
        ]
        server = grpc.aio.server(options=options)
        server.add_generic_rpc_handlers((handlers(Inference(desk, is_ready)),))
        shown = f"[{host}]" if ":" in host else host
        server.add_insecure_port(f"{shown}:{port}")
        await server.start()
        logger.info(
            "grpc: front=%d address=%s:%d", desk.place.index if desk.place else 0, shown, port
        )
        try:
            yield
        finally:
            await server.stop(DRAIN_S)

    return lifespan
