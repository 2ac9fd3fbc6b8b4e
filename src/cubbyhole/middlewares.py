# SPDX-License-Identifier: Apache-2.0
"""Middlewares under LitServe's import path. They are kept in front/limits.py."""

from __future__ import annotations

from cubbyhole.front.limits import MaxSizeMiddleware, RequestCountMiddleware

__all__ = ["MaxSizeMiddleware", "RequestCountMiddleware"]
