# SPDX-License-Identifier: Apache-2.0
"""Loggers under LitServe's import path. They are kept in api/loggers.py."""

from __future__ import annotations

from cubbyhole.api.loggers import Logger

__all__ = ["Logger"]
