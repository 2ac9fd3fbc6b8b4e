# SPDX-License-Identifier: Apache-2.0
"""What users subclass: `LitAPI`, `Callback` and `Logger`."""

from __future__ import annotations

from cubbyhole.api.lit_api import LitAPI

__all__ = ["LitAPI"]
