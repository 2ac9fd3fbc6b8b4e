# SPDX-License-Identifier: Apache-2.0
"""What a user's loop gets as `transport`, under LitServe's import path. Entries themselves travel in channels/."""

from __future__ import annotations

from cubbyhole.worker.loops.custom import Transport

__all__ = ["Transport"]
