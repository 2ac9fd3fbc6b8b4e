# SPDX-License-Identifier: Apache-2.0
"""The contract of a spec: what stands between a wire format and a LitAPI.

A spec has two faces. One is LitServe's (`LitSpec`: paths, endpoints, `decode_request`, `encode_response`), which user code
subclasses. The other are the hooks that a worker's runner calls, because fronts move bytes and workers read them:

Flow:  body -> **read_request** -> **choices** -> LitAPI (decode, predict, encode) -> **render** | **open_stream** -> bytes
Owns:  nothing. A spec is pickled into its workers and keeps no request.
See:   specs/openai_chat.py, specs/openai_embeddings.py; docs/migrating.md
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import msgspec

from cubbyhole.core.entries import Result, ResultMeta
from cubbyhole.core.errors import HTTPError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from pydantic import BaseModel, ValidationError

    from cubbyhole.core.entries import Buffer, Failure, RequestMeta

PLAIN_STREAM = msgspec.msgpack.encode(ResultMeta())  # LitServe's streams have no content type


class StreamRenderer(Protocol):
    """Turns the steps of one streamed answer into its final bytes."""

    head: tuple[int, bytes]
    """Status and encoded `ResultMeta` of the answer, for its first chunk."""

    def step(self, index: int, encoded: Any) -> bytes:
        """Render what `encode_response` yielded for choice `index`; may be empty."""

    def finish(self) -> bytes:
        """Render the clean end."""

    def fail(self, failure: Failure) -> bytes:
        """Render an end by failure, complete, so that a client's parser sees it."""


class LitSpec:
    """Base of all specs.

    Attributes:
        api_path: Path that is served as a model path; None: the LitAPI's own `api_path`.
        request_model: Pydantic model of a request, for the OpenAPI document; None: any JSON.
        empty_methods: HTTP methods of `api_path` that are answered 200 with nothing.
        error_key: Where a failed answer's JSON has its text.
        more_paths: Further paths on which the same API is served.
        response_buffer, request_queue, response_queue_id: LitServe's attributes. None here: requests travel in the channel.
    """

    request_model: ClassVar[type[BaseModel] | None] = None
    empty_methods: ClassVar[tuple[str, ...]] = ()
    error_key: ClassVar[str] = "detail"
    more_paths: tuple[str, ...] = ()

    def __init__(self) -> None:
        self._endpoints: list[tuple[str, Callable[..., Any], list[str]]] = []
        self._server: Any = None
        self._max_batch_size = 1
        self.api_path: str | None = None
        self.response_buffer: Any = None
        self.request_queue: Any = None
        self.response_queue_id: int | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Leave behind what belongs to the process of the server: routes, and the server itself."""
        return {**self.__dict__, "_endpoints": [], "_server": None, "response_buffer": None}

    @property
    def stream(self) -> bool:
        """Whether predict and encode_response are generators."""
        return False

    @property
    def endpoints(self) -> list[tuple[str, Callable[..., Any], list[str]]]:
        """A copy of the registered (path, endpoint, methods)."""
        return list(self._endpoints)

    def add_endpoint(self, path: str, endpoint: Callable[..., Any], methods: list[str]) -> None:
        """Register a FastAPI route.

        Adding the same path and methods again replaces the route, so that a spec may serve two servers.
        """
        kept = [old for old in self._endpoints if (old[0], old[2]) != (path, methods)]
        self._endpoints = [*kept, (path, endpoint, methods)]

    def pre_setup(self, lit_api: Any) -> None:
        """Check the LitAPI and register endpoints; called when the server is made."""

    def setup(self, server: Any) -> None:
        """Learn which server will serve the endpoints; called in the server's process."""
        self._server = server

    def decode_request(self, request: Any, context_kwargs: Any = None) -> Any:  # noqa: ARG002
        """Turn the request into what predict gets; a LitAPI's own `decode_request` wins over it."""
        return request

    def encode_response(self, output: Any, context_kwargs: Any = None) -> Any:  # noqa: ARG002
        """Turn what predict gave into what `render` expects; a LitAPI's own `encode_response` wins over it."""
        return output

    def as_async(self) -> Any:
        """Return this spec with `async` methods, for `enable_async=True`."""
        return AsyncSpec(self)

    # What a worker's runner calls ------------------------------------------------------------------------------------

    def read_request(self, body: Buffer, meta: RequestMeta | None = None) -> Any:  # noqa: ARG002
        """Parse and check a body.

        Raises:
            HTTPError: 400 for what is no JSON, 422 for what is not the spec's request.
        """
        try:
            return msgspec.json.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise malformed(str(error)) from error

    def choices(self, request: Any) -> list[Any]:
        """Return the requests that are run for this one: one for each answer that the client wants."""
        return [request]

    def answers_with_stream(self, request: Any) -> bool:  # noqa: ARG002
        """Whether this request is answered chunk by chunk (`open_stream`) or at once (`render`)."""
        return self.stream

    def render(self, request: Any, outputs: list[list[Any]]) -> Result:  # noqa: ARG002
        """Make the whole answer from `outputs[choice][step]`, which `encode_response` gave."""
        output = outputs[0] if self.stream else outputs[0][-1]
        return Result(body=msgspec.json.encode(output, enc_hook=as_plain))

    def open_stream(self, request: Any) -> StreamRenderer:  # noqa: ARG002
        """Begin a streamed answer."""
        return _LineStream()


class AsyncSpec:
    """A spec for `enable_async=True`: the same, with `async` decode_request and encode_response."""

    def __init__(self, spec: LitSpec) -> None:
        self.spec = spec

    def __getattr__(self, name: str) -> Any:
        """Everything else is the spec's."""
        if name == "spec":  # while unpickling there is none yet
            raise AttributeError(name)
        return getattr(self.spec, name)

    @property
    def stream(self) -> bool:
        """Whether predict and encode_response are generators."""
        return self.spec.stream

    def as_async(self) -> AsyncSpec:
        """Return itself."""
        return self

    async def decode_request(self, request: Any, context_kwargs: Any = None) -> Any:
        """See `LitSpec.decode_request`."""
        return await _awaited(self.spec.decode_request(request, context_kwargs))

    async def encode_response(self, output: Any, context_kwargs: Any = None) -> Any:
        """See `LitSpec.encode_response`."""
        return await _awaited(self.spec.encode_response(output, context_kwargs))


class _LineStream:
    """LitServe's plain stream: dicts and models as JSON lines, text and bytes as they are."""

    head = (200, PLAIN_STREAM)

    def step(self, index: int, encoded: Any) -> bytes:  # noqa: ARG002
        if isinstance(encoded, str):
            return encoded.encode()
        if isinstance(encoded, (bytes, bytearray, memoryview)):
            return bytes(encoded)
        return msgspec.json.encode(encoded, enc_hook=as_plain) + b"\n"

    def finish(self) -> bytes:
        return b""

    def fail(self, failure: Failure) -> bytes:
        return msgspec.json.encode({"error": failure.detail, "status": failure.status}) + b"\n"


async def _awaited(value: Any) -> Any:
    return await value if hasattr(value, "__await__") else value


async def iterate(source: Any) -> AsyncIterator[Any]:
    """Go through a generator of either kind."""
    if hasattr(source, "__aiter__"):
        async for item in source:
            yield item
    else:
        for item in source:
            yield item


def as_plain(value: Any) -> Any:
    """Give msgspec what it knows for what it does not: pydantic models, arrays, tensors."""
    for name in ("model_dump", "tolist"):
        convert = getattr(value, name, None)
        if convert is not None:
            return convert()
    raise TypeError(
        f"An answer holds a {type(value).__name__}, which has no JSON form. "
        "Return dict, list, str, number, bool, None, a pydantic model or an array from encode_response."
    )


def malformed(reason: str) -> HTTPError:
    """Refuse a body that is no JSON."""
    return HTTPError(400, f"The request body is not valid JSON: {reason}")


def read_model(model: type[BaseModel], body: Buffer) -> Any:
    """Parse and check a JSON body against a pydantic model.

    Raises:
        HTTPError: 400 for what is no JSON; 422 with FastAPI's list of errors for what the model refuses.
    """
    from pydantic import ValidationError

    raw = body if isinstance(body, (bytes, bytearray)) else bytes(body)
    try:
        return model.model_validate_json(raw)
    except ValidationError as error:
        raise refused(error) from error


def refused(error: ValidationError) -> HTTPError:
    """Turn pydantic's errors into the answer that FastAPI gives for them."""
    problems = error.errors(include_url=False)
    if problems and problems[0]["type"] == "json_invalid":
        return malformed(problems[0]["msg"].removeprefix("Invalid JSON: "))
    return HTTPError(422, [_as_fastapi(problem) for problem in problems])


def _as_fastapi(problem: Mapping[str, Any]) -> dict[str, Any]:
    shown = {**problem, "loc": ["body", *problem["loc"]]}
    if "ctx" in shown:  # may hold the exception itself, which FastAPI shows as {}
        shown["ctx"] = {
            key: {} if isinstance(value, BaseException) else value
            for key, value in shown["ctx"].items()
        }
    return shown


def move_path(spec: LitSpec, lit_api: Any, default_path: str) -> None:
    """Give the spec the LitAPI's `api_path`, where the user chose one."""
    import warnings

    chosen = getattr(lit_api, "_api_path", None)
    if chosen in (None, "/predict", default_path):
        return
    if chosen != spec.api_path:
        warnings.warn(
            f"Custom API path detected: '{chosen}'. The OpenAI SDK only supports the default path '{default_path}'. "
            "Clients that use the SDK will not find this API unless their base_url leads to it.",
            UserWarning,
            stacklevel=4,
        )
    spec.api_path = chosen
