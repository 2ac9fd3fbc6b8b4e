# SPDX-License-Identifier: Apache-2.0
"""The generated client under LitServe's import path. It is kept beside `LitServer.generate_client_file`."""

from __future__ import annotations

from cubbyhole.server import CLIENT_FILE as client_template  # noqa: N811  (LitServe's name)

__all__ = ["client_template"]
