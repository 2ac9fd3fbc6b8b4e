# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: ARG002  (hooks name what an override may take)
"""`LitAPI`: what a user subclasses to serve a model, under LitServe's names.

An instance is made in the user's script, checked by `LitServer`, pickled into each worker, and set
up there. Nothing here runs a request: the worker's runner calls the hooks.

Owns:  the endpoint's options, and their checks.
See:   docs/reference/lit-api.md, worker/runner.py
"""

from __future__ import annotations

import functools
import inspect
import json
import sys
import time
import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# `api` lies below `worker`, so the loop that "auto" means is found by name when it is asked for.
_AUTO_LOOP = "cubbyhole.worker.loops.choose:get_default_loop"
_SLOW_CONSTRUCTOR_S = 1.0  # as LitServe: from here on a constructor is suspected of loading a model


class LitAPI:
    """One endpoint: options here, behaviour in the methods that a subclass overrides.

    A request goes through `decode_request`, `predict`, `encode_response`, each given the result of
    the one before. With `max_batch_size > 1` it is `decode_request` for each, `batch`, `predict`,
    `unbatch`, `encode_response` for each. A hook with a parameter named `context` gets the
    request's dict. One with a parameter named `cancelled` gets a callable without arguments that says whether
    nobody waits for the answer any more (in a batched `predict`: for any answer of the batch), one
    named `deadline` the time on `time.monotonic`'s clock at which the answer is too late.

    Args:
        max_batch_size: Requests that one `predict` takes at most, > 0; 1 means no batching.
        batch_timeout: Seconds a batch stays open for more after its first request, >= 0.
        api_path: HTTP path, starts with "/".
        stream: `predict` and `encode_response` are generators, and each value goes out as it comes.
        loop: "auto", or a `LitLoop`.
        spec: A `LitSpec` such as `OpenAISpec`.
        mcp: An `MCP` that offers this endpoint as a tool.
        enable_async: `predict` is a coroutine function or an asynchronous generator function.

    Raises:
        ValueError: an option is out of range, or `enable_async` without an asynchronous `predict`.
    """

    retry_on_worker_death: ClassVar[bool] = False
    """Run a request again elsewhere if its worker died. Only where `predict` may run twice."""

    overlap_batches: ClassVar[bool] = True
    """Decode the next batch and encode the last one in a thread beside a running `predict`."""

    body_formats: ClassVar[tuple[str, ...] | None] = None
    """What bodies `decode_request` may get, of "json", "form", "raw", "npy", "safetensors", "msgpack", "arrow", "image".

    None: those that go with its annotation.
    """

    answer_formats: ClassVar[tuple[str, ...]] = ("json",)
    """In which formats the answer can be had, the first where a client has no wish (`Accept`). Of the same words but "form"."""

    # On the class, so that a subclass whose constructor does not call this one is a LitAPI, too.
    max_batch_size: int = 1
    batch_timeout: float = 0.0
    enable_async: bool = False
    mcp: Any = None
    request_timeout: float | None = None
    _api_path: str = "/predict"
    _stream: bool = False
    _loop: Any = "auto"
    _spec: Any = None
    _device: str | None = None
    _logger_queue: Any = None
    _unbatches: str | None = None  # which default `unbatch` is meant: None until `pre_setup`

    def __init__(
        self,
        max_batch_size: int = 1,
        batch_timeout: float = 0.0,
        api_path: str = "/predict",
        stream: bool = False,
        loop: Any = "auto",
        spec: Any = None,
        mcp: Any = None,
        enable_async: bool = False,
    ) -> None:
        if max_batch_size <= 0:
            raise ValueError("max_batch_size must be greater than 0")
        if batch_timeout < 0:
            raise ValueError("batch_timeout must be greater than or equal to 0")
        if not api_path.startswith("/"):
            raise ValueError(
                "api_path must start with '/'. Please provide a valid api path like "
                "'/predict', '/classify', or '/v1/predict'"
            )
        if max_batch_size == 1 and overrides(self, "batch") and overrides(self, "unbatch"):
            warnings.warn(
                "The LitServer has both batch and unbatch methods implemented, "
                "but the max_batch_size parameter was not set.",
                stacklevel=2,
            )
        self.max_batch_size = max_batch_size
        self.batch_timeout = batch_timeout
        self.enable_async = enable_async
        self.mcp = mcp
        self._api_path = api_path
        self._stream = stream
        self._spec = None
        self.loop = loop
        self.spec = spec
        if mcp is not None and hasattr(mcp, "_connect"):
            mcp._connect(self)  # noqa: SLF001  (its other half)
        if enable_async:
            self._check_async()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "__init__" in cls.__dict__:
            cls.__init__ = _timed(cls.__init__)  # type: ignore[method-assign]

    # What users override. `*args, **kwargs` say to type checkers that an override may take other parameters.

    def setup(self, device: Any, *args: Any, **kwargs: Any) -> Any:
        """Load the model; runs once in each worker. `device` is "cpu", "cuda:0", "mps:0", ..."""

    def decode_request(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        """Turn a request into an input of `predict`. Its parameter's annotation says what it gets.

        None or `Request`: parsed JSON, or the form; a pydantic model: validated, else 422;
        `memoryview`: the raw body without a copy, valid until the answer; `bytes`: the raw body.
        """
        if self._spec is not None:
            return self._spec.decode_request(request, **kwargs)
        return request

    def batch(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Join inputs: tensors and arrays are stacked on a new first axis, others stay a list."""
        first = inputs[0]
        if hasattr(first, "__torch_function__"):
            return import_module("torch").stack(inputs)
        numpy = sys.modules.get("numpy")  # no array without numpy
        if numpy is not None and isinstance(first, numpy.ndarray):
            return numpy.stack(inputs)
        return inputs

    def predict(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        """Run the model."""
        raise NotImplementedError("predict is not implemented")

    def unbatch(self, output: Any, *args: Any, **kwargs: Any) -> Any:
        """Part a batch's output into one output for each input, in their order."""
        if self._unbatches is None:
            raise ValueError(
                "Default implementation for `LitAPI.unbatch` method was not found. "
                "Please implement the `LitAPI.unbatch` method."
            )
        return _unbatch_steps(output) if self._unbatches == "steps" else _unbatch_list(output)

    def encode_response(self, output: Any, *args: Any, **kwargs: Any) -> Any:
        """Turn an output into the answer."""
        if self._spec is not None:
            return self._spec.encode_response(output, **kwargs)
        return output

    def format_encoded_response(self, data: Any) -> Any:
        """Turn one value of a stream into str or bytes: dicts and models become a line of JSON."""
        if isinstance(data, dict):
            return json.dumps(data) + "\n"
        if hasattr(data, "model_dump_json"):
            return data.model_dump_json() + "\n"
        return data

    def health(self) -> Any:
        """Whether the endpoint may get requests. Runs in HTTP processes, without `setup`."""
        return True

    def rank_request(self, headers: dict[str, str]) -> int:
        """Override it to order requests: return a class from 0 (most urgent) to 9, by a request's headers.

        Names of headers are in lower case. Runs in HTTP processes, without `setup`, and must not wait for anything.
        """
        return 5

    def has_active_requests(self) -> bool:
        """For continuous batching: whether sequences are under way."""
        raise NotImplementedError("has_active_requests is not implemented")

    def has_capacity(self) -> bool:
        """For continuous batching: whether one more sequence fits."""
        raise NotImplementedError("has_capacity is not implemented")

    # What users call.

    def log(self, key: str, value: Any) -> None:
        """Send a value to the server's loggers."""
        if self._logger_queue is None:
            warnings.warn(
                f"Logging event ('{key}', '{value}') attempted without a configured logger. "
                "To track and visualize metrics, please initialize and attach a logger. "
                "If this is intentional, you can ignore this message.",
                stacklevel=2,
            )
            return
        self._logger_queue.put((key, value))

    # What the server calls.

    def pre_setup(self, spec: Any = None) -> None:
        """Make the options final: called by `LitServer` before workers are started."""
        self._unbatches = "steps" if self.stream else "list"
        if spec is not None:
            self.spec = spec
        if self._spec is not None:
            self._spec._max_batch_size = self.max_batch_size  # noqa: SLF001  (the specs read it so)
            self._spec.pre_setup(self)

    def set_logger_queue(self, queue: Any) -> None:
        """Say where `log` puts its pairs; anything with `put`."""
        self._logger_queue = queue

    @property
    def stream(self) -> bool:
        """Whether answers are streams."""
        return self._stream

    @stream.setter
    def stream(self, value: bool) -> None:
        self._stream = value

    @property
    def device(self) -> str | None:
        """The worker's device; None until `setup` is done."""
        return self._device

    @device.setter
    def device(self, value: str | None) -> None:
        self._device = value

    @property
    def spec(self) -> Any:
        """The `LitSpec`, or None."""
        return self._spec

    @spec.setter
    def spec(self, value: Any) -> None:
        self._spec = value
        if value is not None:
            self._stream = value.stream

    @property
    def api_path(self) -> str:
        """The endpoint's HTTP path."""
        if self._spec is not None and self._spec.api_path is not None:
            return str(self._spec.api_path)
        return self._api_path

    @api_path.setter
    def api_path(self, value: str) -> None:
        self._api_path = value

    @property
    def loop(self) -> Any:
        """The loop that runs this endpoint's requests; "auto" is resolved when it is first read."""
        if self._loop == "auto":
            module, _, name = _AUTO_LOOP.partition(":")
            choose = getattr(import_module(module), name)
            self._loop = choose(self.stream, self.max_batch_size, self.enable_async)
        return self._loop

    @loop.setter
    def loop(self, value: Any) -> None:
        if value is None:
            value = "auto"
        if value != "auto" and not callable(value):
            raise ValueError("loop must be an instance of _BaseLoop or 'auto'")
        self._loop = value

    def _check_async(self) -> None:
        if not _is_async(self.predict):
            raise ValueError(
                "Async validation failed:\n- predict must be an async generator or async function "
                "when enable_async=True"
            )
        for name in ("decode_request", "encode_response"):
            if overrides(self, name) and not _is_async(getattr(self, name)):
                warnings.warn(
                    f"{name} should be an async function or async generator when "
                    "enable_async=True. LitServe will asyncify the method.",
                    stacklevel=3,
                )


def overrides(lit_api: LitAPI, name: str) -> bool:
    """Whether a LitAPI has its own method of that name."""
    own = getattr(lit_api, name)
    return getattr(own, "__func__", own) is not getattr(LitAPI, name)


def _is_async(method: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(method) or inspect.isasyncgenfunction(method)


def _timed(constructor: Callable[..., None]) -> Callable[..., None]:
    """Warn of a slow constructor in a class without `setup`: it seems to load the model."""

    @functools.wraps(constructor)
    def timed(self: Any, *args: Any, **kwargs: Any) -> None:
        start_s = time.monotonic()
        constructor(self, *args, **kwargs)
        took_s = time.monotonic() - start_s
        outermost = type(self).__init__ is timed
        if outermost and took_s >= _SLOW_CONSTRUCTOR_S and "setup" not in type(self).__dict__:
            warnings.warn(
                f"{type(self).__name__}.__init__ took {took_s:.2f} seconds to execute. This "
                "suggests that you're loading a model or doing other heavy processing inside the "
                "constructor. Load it in setup() instead: it runs once in each worker process.",
                RuntimeWarning,
                stacklevel=2,
            )

    return timed


_NOT_LISTS: dict[type, str] = {str: "a string", dict: "a dict", set: "a set"}


def _unbatch_list(output: Any) -> list[Any]:
    for kind, words in _NOT_LISTS.items():
        if isinstance(output, kind):
            warnings.warn(
                f"The 'predict' method returned {words} instead of a list of predictions. "
                "When batching is enabled, 'predict' must return a list to handle multiple inputs "
                "correctly. Please update the 'predict' method to return a list of predictions.",
                stacklevel=3,
            )
    return list(output)


def _unbatch_steps(output: Any) -> Iterator[list[Any]]:
    for step in output:
        yield list(step)
