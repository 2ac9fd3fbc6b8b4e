# SPDX-License-Identifier: Apache-2.0
"""FastAPI's HTTPException in a form that survives pickling, for users' loops.

Cubbyhole itself lets no exception cross a process.
"""

from __future__ import annotations

from typing import Any

from fastapi import HTTPException


class PickleableHTTPException(HTTPException):
    """An HTTPException that keeps status, detail and headers when it is pickled."""

    @staticmethod
    def from_exception(exception: HTTPException) -> PickleableHTTPException:
        """Take over another one's content."""
        return PickleableHTTPException(exception.status_code, exception.detail, exception.headers)

    def __reduce__(self) -> tuple[Any, ...]:
        return PickleableHTTPException, (self.status_code, self.detail, self.headers)


def portable(exception: BaseException) -> BaseException:
    """Return an exception that can be pickled in place of an HTTPException; others as they are."""
    if isinstance(exception, HTTPException):
        return PickleableHTTPException.from_exception(exception)
    return exception
