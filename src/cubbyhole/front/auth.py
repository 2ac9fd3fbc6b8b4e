# SPDX-License-Identifier: Apache-2.0
"""Who may ask: the API key of `LIT_SERVER_API_KEY`, and the bearer key of the shutdown endpoint.

Keys are compared in constant time, on bytes, so that a wrong one says nothing about the right one.

See:   LitServe's rules in docs/migrating.md; an API's own `authorize` replaces the key and takes the slow lane.
"""

from __future__ import annotations

import hmac
import logging
import secrets
from typing import TYPE_CHECKING

from fastapi import HTTPException, Security
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer

from cubbyhole.core.entries import Failure

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger(__name__)

KEY_HEADER = b"x-api-key"
NOT_AUTHENTICATED = Failure(
    "not_authenticated", 401, "Not authenticated", {"WWW-Authenticate": "APIKey"}
)
WRONG_KEY = Failure(
    "wrong_api_key",
    401,
    "Invalid API Key. Check that you are passing a correct 'X-API-Key' in your header.",
)
WRONG_SHUTDOWN_KEY = (
    "Invalid Bearer token for Shutdown API. Check that you are passing a correct "
    "'Authorization: Bearer <SHUTDOWN_API_KEY>' in your header."
)


def check_keys(**keys: str | None) -> None:
    """Refuse a key that is set but empty: it would guard nothing, or be guessed at once.

    Args:
        **keys: By the name of their environment variable.

    Raises:
        ValueError: one is empty.
    """
    for name, key in keys.items():
        if key is not None and not key.strip():
            raise ValueError(
                f"{name} is set but empty. Give it a value, or unset it to serve without a key."
            )


def refuse_key(key: str, headers: list[tuple[bytes, bytes]]) -> Failure | None:
    """Return the answer to a request whose X-API-Key is missing or wrong, None for the right one."""
    for name, value in headers:
        if name == KEY_HEADER:
            return None if hmac.compare_digest(value, key.encode()) else WRONG_KEY
    return NOT_AUTHENTICATED


def key_dependency(read_key: Callable[[], str | None]) -> Callable[..., None]:
    """Make the same check as a FastAPI dependency, which the OpenAPI document shows."""
    scheme = APIKeyHeader(name="X-API-Key", auto_error=False)

    def api_key_auth(given: str | None = Security(scheme)) -> None:
        key = read_key()
        if key is None:
            return
        headers = [] if given is None else [(KEY_HEADER, given.encode("latin-1", "replace"))]
        refused = refuse_key(key, headers)
        if refused is not None:
            raise HTTPException(refused.status, refused.detail, refused.headers)

    return api_key_auth


def shutdown_key(configured: str | None, port_hint: str) -> str:
    """Return the key of the shutdown endpoint; a random one, told in the log, where none is configured."""
    if configured is not None:
        return configured
    key = secrets.token_urlsafe(32)
    logger.warning(
        "LitServe's Shutdown API is enabled, but the `LIT_SHUTDOWN_API_KEY` environment variable is missing."
        "Generated shutdown API key: %s",
        key,
    )
    logger.info(
        "Use this command to shut the server down: curl -X POST -H 'Authorization: Bearer %s' %s",
        key,
        port_hint,
    )
    return key


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
