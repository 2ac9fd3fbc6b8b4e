# SPDX-License-Identifier: Apache-2.0
"""The hooks of a LitAPI, looked at once: which are overridden, what else they take, whether they are asynchronous.

Flow:  main.py -> **hooks.py** -> runner.py
Owns:  nothing.

Beside its value a hook gets, by the name of a parameter, `context` (the request's dict; a batched `predict`: the list
of them), `cancelled` (a callable: does nobody wait any more; a batched `predict`: for any of the batch), `deadline` (on
`time.monotonic`'s clock, seconds; inf for none; a batched `predict`: the first of the batch) and `reserve` (memory for the answer, see
rooms.py; a batched `predict`: ordinary memory).
"""

from __future__ import annotations

import inspect
import math
from typing import TYPE_CHECKING, Any, TypeAlias

from cubbyhole.api.callbacks import CallbackRunner, call_contained
from cubbyhole.api.lit_api import overrides
from cubbyhole.core.clock import NEVER_NS

if TYPE_CHECKING:
    from collections.abc import Callable

    from cubbyhole.api.callbacks import Callback
    from cubbyhole.api.lit_api import LitAPI

    Cancelled: TypeAlias = Callable[[], bool]
    Bound: TypeAlias = Callable[[Any, Any, Cancelled], Any]  # value, context, cancelled


class Hook:
    """One method of a LitAPI.

    Attributes:
        is_default: Not overridden.
        skip: The default, which returns its value: need not be called.
        plain: Takes its value only: may be called directly as `method`.
        wants_context: Has a parameter `context`.
        is_async: A coroutine function or an asynchronous generator function.
        is_generator: Yields, in either way.
        call: With all that it may want: (value, context, cancelled).
    """

    def __init__(self, lit_api: LitAPI, name: str) -> None:
        self.method: Callable[..., Any] = getattr(lit_api, name)
        own = overrides(lit_api, name)
        parameters = inspect.signature(self.method).parameters if own else {}
        self.wants_context = "context" in parameters
        wants_cancelled = "cancelled" in parameters
        self.is_default = not own
        self.skip = not own and lit_api.spec is None
        of_its_owner = [name for name in _OF_ITS_OWNER if name in parameters]
        self.plain = not (self.wants_context or wants_cancelled or of_its_owner)
        function = inspect.unwrap(self.method)
        self.is_async = inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(
            function
        )
        self.is_generator = inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(
            function
        )
        self.call: Bound = _bind(self.method, self.wants_context, wants_cancelled)
        if of_its_owner:
            named = {name: _OF_ITS_OWNER[name] for name in of_its_owner}
            self.call = _bind_with_more(self.method, self.wants_context, wants_cancelled, named)


def _bind(method: Callable[..., Any], context: bool, cancelled: bool) -> Bound:
    if context and cancelled:
        return lambda value, c, x: method(value, context=c, cancelled=x)
    if context:
        return lambda value, c, _: method(value, context=c)
    if cancelled:
        return lambda value, _, x: method(value, cancelled=x)
    return lambda value, _c, _x: method(value)


def _bind_with_more(
    method: Callable[..., Any], context: bool, cancelled: bool, named: dict[str, Any]
) -> Bound:
    def call(value: Any, c: Any, x: Cancelled) -> Any:
        wanted: dict[str, Any] = {"context": c} if context else {}
        if cancelled:
            wanted["cancelled"] = x
        for name, ask in named.items():
            wanted[name] = ask(x)
        return method(value, **wanted)

    return call


def _deadline_s(cancelled: Cancelled) -> float:
    """When the answer is too late, on `time.monotonic`'s clock: of the `Task` or `Batch` whose method `cancelled` is."""
    owner: Any = getattr(cancelled, "__self__", None)
    entry = getattr(owner, "entry", None)
    if entry is None and owner is None:  # a plain function: nobody told a deadline
        return math.inf
    deadline_ns = owner.deadline_ns() if entry is None else entry.deadline_ns
    return math.inf if deadline_ns >= NEVER_NS else deadline_ns / 1e9


def _reserve(cancelled: Cancelled) -> Callable[..., Any]:
    """Where the answer may be written, of the `Task` whose method `cancelled` is."""
    owner: Any = getattr(cancelled, "__self__", None)
    own: Callable[..., Any] | None = getattr(owner, "reserve", None)
    return own or _ordinary


def _ordinary(shape: Any, dtype: Any = "float32") -> Any:
    import numpy as np

    return np.empty(shape, dtype)


_OF_ITS_OWNER: dict[str, Callable[[Cancelled], Any]] = {
    "deadline": _deadline_s,
    "reserve": _reserve,
}


class Events:
    """The six events of a request: each is None if no callback hears it, else a function without arguments."""

    def __init__(self, lit_api: LitAPI, callbacks: list[Callback]) -> None:
        runner = CallbackRunner(callbacks)
        self.before_decode = _event(lit_api, runner, "on_before_decode_request")
        self.after_decode = _event(lit_api, runner, "on_after_decode_request")
        self.before_predict = _event(lit_api, runner, "on_before_predict")
        self.after_predict = _event(lit_api, runner, "on_after_predict")
        self.before_encode = _event(lit_api, runner, "on_before_encode_response")
        self.after_encode = _event(lit_api, runner, "on_after_encode_response")
        self.silent = not any(vars(self).values())


def _event(lit_api: LitAPI, runner: CallbackRunner, name: str) -> Callable[[], None] | None:
    hooks = runner.hooks(name)
    if not hooks:
        return None

    def fire() -> None:
        for hook in hooks:
            call_contained(hook, lit_api=lit_api)

    return fire
