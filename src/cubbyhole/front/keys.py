# SPDX-License-Identifier: Apache-2.0
"""Keys, without a web framework: what is set, and whether a request has the right one.

Keys are compared in constant time, on bytes, so that a wrong one says nothing about the right one.

See:   auth.py for the same as FastAPI's dependencies
"""

from __future__ import annotations

import hmac
import logging
import secrets

from cubbyhole.core.entries import Failure

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
