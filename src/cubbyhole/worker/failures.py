# SPDX-License-Identifier: Apache-2.0
"""Exceptions of user code -> `Failure` records, the only form in which they leave the worker.

Flow:  runner.py -> **failures.py** -> WorkerPort.publish
Owns:  nothing.
"""

from __future__ import annotations

import json
import traceback
from typing import Any

import msgspec

from cubbyhole.core.entries import Failure
from cubbyhole.core.errors import BatchSizeMismatch, RequestError
from cubbyhole.worker.answers import encode_json

_encode = msgspec.msgpack.Encoder().encode
_STATUSES = range(100, 1000)


def failure_of(error: BaseException) -> Failure:
    """Make the record of an exception. An HTTPException of any library is known by its attributes.

    Only its status, detail and headers reach the client; of any other exception, nothing does. Whatever is in it, the record
    can be sent: one that cannot would end the worker, and what is in it may be a client's.
    """
    return _sendable(_record_of(error))


def _record_of(error: BaseException) -> Failure:
    message = f"{type(error).__name__}: {error}"
    status = getattr(error, "status_code", None)
    if isinstance(status, int) and hasattr(error, "detail"):
        headers = dict(getattr(error, "headers", None) or {})
        return Failure(
            "http_exception",
            status,
            jsonable(error.detail),
            {str(name): str(value) for name, value in headers.items()},
            message,
        )
    if isinstance(error, RequestError):
        return Failure(error.code, error.status, str(error), message=message)
    code, detail = "predict_failed", "Internal server error"
    if isinstance(error, BatchSizeMismatch):
        code, detail = error.code, "Batch size mismatch"
    text = "".join(traceback.format_exception(error))
    return Failure(code, detail=detail, message=message, traceback_text=text)


def jsonable(value: Any) -> Any:
    """Return a value's JSON form as plain Python, or its text where it has none."""
    if value is None or isinstance(value, str):
        return value
    try:
        return json.loads(encode_json(value))
    except (TypeError, ValueError):
        return str(value)


def _sendable(failure: Failure) -> Failure:
    """Return a failure that every channel can encode: no lone surrogates, no integers of more than 64 bits."""
    try:
        _encode(failure)
    except (OverflowError, TypeError, ValueError, RecursionError):
        return Failure(
            failure.code,
            failure.status if failure.status in _STATUSES else 500,
            _fit_deeply(failure.detail),
            {_fit(name): _fit(value) for name, value in failure.headers.items()},
            _fit(failure.message),
            _fit(failure.traceback_text),
        )
    return failure


def _fit_deeply(value: Any) -> Any:
    try:
        return _fit(value)
    except RecursionError:
        return "The reason is nested too deeply to be told."


def _fit(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {_fit(key): _fit(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_fit(inner) for inner in value]
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        return str(value)
    return value
