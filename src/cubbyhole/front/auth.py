# SPDX-License-Identifier: Apache-2.0
"""Who may ask, as FastAPI's dependencies: the API key of `LIT_SERVER_API_KEY`, and the bearer key of the shutdown endpoint.

See:   keys.py for the comparison itself; LitServe's rules in docs/migrating.md. An API's own `authorize` replaces the key.
"""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING

from fastapi import HTTPException, Security
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer

from cubbyhole.front.keys import KEY_HEADER, refuse_key

if TYPE_CHECKING:
    from collections.abc import Callable

WRONG_SHUTDOWN_KEY = (
    "Invalid Bearer token for Shutdown API. Check that you are passing a correct "
    "'Authorization: Bearer <SHUTDOWN_API_KEY>' in your header."
)


def key_dependency(
    read_key: Callable[[], str | None], reject: Callable[[str], None]
) -> Callable[..., None]:
    """Make the same check as a FastAPI dependency, which the OpenAPI document shows.

    Args:
        read_key: Gives the key.
        reject: Called with the code of each refusal.
    """
    scheme = APIKeyHeader(name="X-API-Key", auto_error=False)

    def api_key_auth(given: str | None = Security(scheme)) -> None:
        key = read_key()
        if key is None:
            return
        headers = [] if given is None else [(KEY_HEADER, given.encode("latin-1", "replace"))]
        refused = refuse_key(key, headers)
        if refused is not None:
            reject(refused.code)
            raise HTTPException(refused.status, refused.detail, refused.headers)

    return api_key_auth


def bearer_dependency(read_key: Callable[[], str]) -> Callable[..., None]:
    """Make the check of the shutdown endpoint."""
    scheme = HTTPBearer(auto_error=False)

    def shutdown_auth(
        given: HTTPAuthorizationCredentials | None = Security(scheme),  # noqa: B008  (FastAPI reads it)
    ) -> None:
        token = b"" if given is None else given.credentials.encode()
        if not hmac.compare_digest(token, read_key().encode()):
            raise HTTPException(401, WRONG_SHUTDOWN_KEY)

    return shutdown_auth
