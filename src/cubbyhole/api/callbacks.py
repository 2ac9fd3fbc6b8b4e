# SPDX-License-Identifier: Apache-2.0
"""Callbacks: users' code that runs around the steps of a request, and what contains its failures.

Owns:  nothing beyond the list of callbacks it was given.
See:   docs/reference/callbacks.md, worker/runner.py
"""

from __future__ import annotations

import enum
import logging
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

logger = logging.getLogger(__name__)


class EventTypes(enum.Enum):
    """The events; each value is the name of the hook."""

    BEFORE_SETUP = "on_before_setup"
    AFTER_SETUP = "on_after_setup"
    BEFORE_DECODE_REQUEST = "on_before_decode_request"
    AFTER_DECODE_REQUEST = "on_after_decode_request"
    BEFORE_PREDICT = "on_before_predict"
    AFTER_PREDICT = "on_after_predict"
    BEFORE_ENCODE_RESPONSE = "on_before_encode_response"
    AFTER_ENCODE_RESPONSE = "on_after_encode_response"
    ON_SERVER_START = "on_server_start"
    ON_SERVER_END = "on_server_end"
    ON_REQUEST = "on_request"
    ON_RESPONSE = "on_response"


class Callback:
    """Override any of the hooks. Instances are pickled into workers: processes share no state."""

    def on_before_setup(self, *args: Any, **kwargs: Any) -> None:
        """In a worker, before `setup`; gets `lit_api`."""

    def on_after_setup(self, *args: Any, **kwargs: Any) -> None:
        """In a worker, after `setup`; gets `lit_api`."""

    def on_before_decode_request(self, *args: Any, **kwargs: Any) -> None:
        """In a worker; gets `lit_api`."""

    def on_after_decode_request(self, *args: Any, **kwargs: Any) -> None:
        """In a worker; gets `lit_api`."""

    def on_before_predict(self, *args: Any, **kwargs: Any) -> None:
        """In a worker, once for each request or batch; gets `lit_api`."""

    def on_after_predict(self, *args: Any, **kwargs: Any) -> None:
        """In a worker, when the output is there (of a generator: all of it); gets `lit_api`."""

    def on_before_encode_response(self, *args: Any, **kwargs: Any) -> None:
        """In a worker; gets `lit_api`."""

    def on_after_encode_response(self, *args: Any, **kwargs: Any) -> None:
        """In a worker; gets `lit_api`."""

    def on_server_start(self, *args: Any, **kwargs: Any) -> None:
        """When the server is made, once for each LitAPI; gets `litserver`."""

    def on_server_end(self, *args: Any, **kwargs: Any) -> None:
        """When an HTTP process ends; gets `litserver`."""

    def on_request(self, *args: Any, **kwargs: Any) -> None:
        """In an HTTP process, when a request has come; gets `active_requests` and `litserver`."""

    def on_response(self, *args: Any, **kwargs: Any) -> None:
        """In an HTTP process, when an answer is there; gets `litserver`."""


class NoopCallback(Callback):
    """A callback that does nothing."""


class PredictionTimeLogger(Callback):
    """Prints how long each `predict` took."""

    def on_before_predict(self, *args: Any, **kwargs: Any) -> None:
        """Take the time."""
        del args, kwargs
        self._start_s = time.perf_counter()

    def on_after_predict(self, *args: Any, **kwargs: Any) -> None:
        """Print the difference."""
        del args, kwargs
        took_s = time.perf_counter() - self._start_s
        print(f"Prediction took {took_s:.2f} seconds", flush=True)  # noqa: T201


class RequestTracker(Callback):
    """Prints how many requests are open, at each new one."""

    def on_request(self, *args: Any, **kwargs: Any) -> None:
        """Print the number."""
        del args
        print(f"Active requests: {kwargs['active_requests']}", flush=True)  # noqa: T201


class CallbackRunner:
    """Calls hooks; what they raise is logged and goes no further."""

    def __init__(self, callbacks: Callback | Iterable[Callback] | None = None) -> None:
        if isinstance(callbacks, Callback):
            callbacks = [callbacks]
        self._callbacks: list[Callback] = list(callbacks or ())

    def hooks(self, event_name: str) -> list[Callable[..., Any]]:
        """The hooks of that name that do something; none: no need to trigger the event."""
        base = getattr(Callback, event_name, None)
        found = []
        for callback in self._callbacks:
            hook = getattr(callback, event_name, None)
            if hook is not None and getattr(hook, "__func__", hook) is not base:
                found.append(hook)
        return found

    def trigger_event(self, event_name: str | EventTypes, *args: Any, **kwargs: Any) -> None:
        """Call the hook of that name of every callback, in their order."""
        name = event_name.value if isinstance(event_name, EventTypes) else event_name
        for hook in self.hooks(name):
            call_contained(hook, *args, **kwargs)


def call_contained(hook: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
    """Call a hook; its failure is logged, as a callback must not cost a request."""
    try:
        hook(*args, **kwargs)
    except Exception:
        logger.exception("callback failed: hook=%s", getattr(hook, "__qualname__", hook))
