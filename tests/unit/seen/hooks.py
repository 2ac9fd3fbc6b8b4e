# SPDX-License-Identifier: Apache-2.0
"""Hooks of `LitServer(redact=...)` for tests; imported by name."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from cubbyhole.seen.payloads import Payload


def hide_names(payload: Payload) -> Payload:
    """Take names out of requests."""
    request = re.sub(rb'"name": "[^"]*"', b'"name": "***"', payload.request or b"")
    return msgspec.structs.replace(payload, request=request)


def none(_payload: Payload) -> None:
    """Hide everything."""


def raises(_payload: Payload) -> Payload:
    """Have a bug."""
    raise KeyError("name")


def wrong(payload: Payload) -> Any:
    """Forget the rest."""
    return payload.request
