# SPDX-License-Identifier: Apache-2.0
"""LitServe's fixed values."""

from __future__ import annotations

DEFAULT_API_PATH = "/predict"
DEFAULT_HEALTHCHECK_PATH = "/health"
DEFAULT_INFO_PATH = "/info"
DEFAULT_SHUTDOWN_PATH = "/shutdown"
DEFAULT_PORT = 8000
DEFAULT_TIMEOUT_S = 30

__all__ = [
    "DEFAULT_API_PATH",
    "DEFAULT_HEALTHCHECK_PATH",
    "DEFAULT_INFO_PATH",
    "DEFAULT_PORT",
    "DEFAULT_SHUTDOWN_PATH",
    "DEFAULT_TIMEOUT_S",
]
