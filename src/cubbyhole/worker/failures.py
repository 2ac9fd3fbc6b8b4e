# SPDX-License-Identifier: Apache-2.0
"""Exceptions of user code -> `Failure` records, the only form in which they leave the worker.

Flow:  runner.py -> **failures.py** -> WorkerPort.publish
Owns:  nothing.
"""

from __future__ import annotations

import json
import traceback
from typing import Any

from cubbyhole.core.entries import Failure
from cubbyhole.core.errors import BatchSizeMismatch, RequestError
from cubbyhole.worker.answers import encode_json


def failure_of(error: BaseException) -> Failure:
    """Make the record of an exception. An HTTPException of any library is known by its attributes.

    Only its status, detail and headers reach the client; of any other exception, nothing does.
    """
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
