# SPDX-License-Identifier: Apache-2.0
"""httpx, where it is installed, and what its errors mean for a caller."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from cubbyhole.core.errors import ClientError, ServerUnreachable


def httpx_or_explain() -> Any:
    """Return the module httpx.

    Raises:
        ClientError: it is not installed.
    """
    try:
        return import_module("httpx")
    except ImportError as error:
        raise ClientError(
            "cubbyhole.Client needs httpx, which is not installed: pip install 'cubbyhole[client]'."
        ) from error


def broken(error: Exception, attempts: int) -> ServerUnreachable:
    """Make the error of a connection that failed at the last attempt."""
    tried = "" if attempts == 1 else f", at the last of {attempts} attempts"
    what = str(error) or type(error).__name__
    return ServerUnreachable(f"No answer from the server: {what}{tried}.")
