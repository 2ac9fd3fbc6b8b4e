# SPDX-License-Identifier: Apache-2.0
"""The generated client under LitServe's import path. It is kept in front/client_file.py."""

from __future__ import annotations

from cubbyhole.front.client_file import CLIENT_FILE as client_template  # noqa: N811  (LitServe's name)

__all__ = ["client_template"]
