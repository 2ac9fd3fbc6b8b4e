# SPDX-License-Identifier: Apache-2.0
"""The LitAPIs of a server: what was given, made a tuple and checked before anything starts.

The texts are LitServe's; users' tests match parts of them.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from cubbyhole.api.lit_api import LitAPI, overrides
from cubbyhole.core.settings import EndpointSettings
from cubbyhole.formats.media import ANSWER_FORMATS, BODY_FORMATS, check_formats
from cubbyhole.front.options import timeout_seconds, workers_of_each_api

if TYPE_CHECKING:
    from collections.abc import Sequence

_NO_GENERATORS = (
    "When `stream=False`, `lit_api.predict`, `lit_api.encode_response` must not be "
    "generator or async generator functions. Set `stream=True` in the LitAPI to stream what they yield."
)
# The line breaks are LitServe's: users' tests match these texts.
_GENERATORS = """When `stream=True` both `lit_api.predict` and
             `lit_api.encode_response` must generate values using `yield`.

             Example:

                def predict(self, inputs):
                    ...
                    for i in range(max_token_length):
                        yield prediction

                def encode_response(self, outputs):
                    for output in outputs:
                        yield encoded_output
            """
_BATCHED_GENERATORS = """When `stream=True` with max_batch_size > 1, `lit_api.predict`, `lit_api.encode_response` and
                `lit_api.unbatch` must generate values using `yield`.

             Example:

                def predict(self, inputs):
                    ...
                    for i in range(max_token_length):
                        yield prediction

                def encode_response(self, outputs):
                    for output in outputs:
                        yield encoded_output

                def unbatch(self, outputs):
                    for output in outputs:
                        yield unbatched_output
            """


def list_apis(given: Any) -> tuple[LitAPI, ...]:
    """Return the LitAPIs of a server.

    Raises:
        ValueError: neither a LitAPI nor LitAPIs, or none at all.
    """
    if isinstance(given, LitAPI):
        return (given,)
    if not isinstance(given, Iterable):
        raise ValueError(  # noqa: TRY004  (LitServe's class)
            f"lit_apis must be a LitAPI or an iterable of LitAPI, but got {type(given)}"
        )
    apis = tuple(given)
    if not apis:
        raise ValueError("lit_apis must not be an empty iterable")
    for api in apis:
        if not isinstance(api, LitAPI):
            raise ValueError(  # noqa: TRY004  (LitServe's class)
                f"lit_apis must be a LitAPI or an iterable of LitAPI, but got {type(api)}"
            )
    return apis


def check_paths(apis: Sequence[LitAPI]) -> None:
    """Refuse paths that are taken.

    Raises:
        ValueError: two APIs have one path, or an API has a path of the server's.
    """
    taken: dict[str, Any] = {"/health": "LitServe healthcheck", "/info": "LitServe info"}
    if len(apis) == 1:
        return
    for api in apis:
        if api.api_path in taken:
            raise ValueError(f"api_path {api.api_path} is already in use by {taken[api.api_path]}")
        taken[api.api_path] = api


def _yields(method: Any) -> bool:
    return inspect.isgeneratorfunction(method) or inspect.isasyncgenfunction(method)


def _check_formats(api: LitAPI) -> None:
    if api.body_formats is not None:
        check_formats(f"{type(api).__name__}.body_formats", api.body_formats, BODY_FORMATS)
    check_formats(f"{type(api).__name__}.answer_formats", api.answer_formats, ANSWER_FORMATS)


def check_api(api: LitAPI, timeout_s: float) -> None:
    """Refuse a LitAPI that could not serve one request.

    Raises:
        ValueError: its methods do not fit its options, a batch waits longer than a request may, or it names a format that there is not.
    """
    _check_formats(api)
    if api.batch_timeout > timeout_s:
        raise ValueError("batch_timeout must be less than request_timeout")
    if not api.api_path.startswith("/"):
        raise ValueError(
            "api_path must start with '/'. Please provide a valid api path like '/predict', '/classify', or '/v1/predict'"
        )
    if api.enable_async and api.max_batch_size > 1:
        raise ValueError(
            "Async batching is not supported. Please use enable_async=False with batching."
        )
    _refuse_async(api)
    if api.spec is not None or vars(api).get("_loop", "auto") != "auto":
        return  # specs and loops of users have their own rules, and check them themselves
    predicts, encodes = _yields(api.predict), _yields(api.encode_response)
    if not api.stream:
        if predicts or encodes:
            raise ValueError(_NO_GENERATORS)
        return
    if api.max_batch_size > 1:
        unbatches = not overrides(api, "unbatch") or _yields(api.unbatch)
        if not (predicts and encodes and unbatches):
            raise ValueError(_BATCHED_GENERATORS)
    elif not (predicts and encodes):
        raise ValueError(_GENERATORS)


def _refuse_async(api: LitAPI) -> None:
    if api.enable_async:
        return
    for name in ("decode_request", "predict", "encode_response"):
        method = getattr(api, name)
        if inspect.iscoroutinefunction(method) or inspect.isasyncgenfunction(method):
            raise ValueError(
                f"'{name}' is defined as async/coroutine, but 'enable_async' is not set in LitAPI. "
                "Construct it with LitAPI(enable_async=True), or make the method synchronous."
            )


def prepare(apis: Sequence[LitAPI], timeout: float | bool) -> None:
    """Make the options of all APIs final and check them.

    Args:
        apis: The server's.
        timeout: As the user gave it to the server.

    Raises:
        ValueError: an API could not serve one request, or two have one path.
    """
    for api in apis:
        api.request_timeout = timeout
        api.pre_setup()
        own_loop = vars(api).get("_loop", "auto")
        if hasattr(own_loop, "pre_setup"):
            own_loop.pre_setup(api, spec=api.spec)
        check_api(api, timeout_seconds(timeout))
    check_paths(apis)


def endpoint_settings(
    apis: Sequence[LitAPI],
    devices: Sequence[str | list[str]],
    workers_per_device: Any,
    timeout: float | bool,
) -> tuple[EndpointSettings, ...]:
    """Return the settings of all APIs, with one device name for each of their workers."""
    counts = workers_of_each_api(workers_per_device, [api.api_path for api in apis])
    names = [device if isinstance(device, str) else device[0] for device in devices]
    return tuple(
        EndpointSettings(
            path=api.api_path,
            workers=tuple(name for name in names for _ in range(count)),
            stream=api.stream,
            max_batch_size=api.max_batch_size,
            batch_timeout_s=api.batch_timeout,
            is_async=api.enable_async,
            timeout_s=timeout_seconds(timeout),
            retry_on_worker_death=api.retry_on_worker_death,
        )
        for api, count in zip(apis, counts, strict=True)
    )
