# SPDX-License-Identifier: Apache-2.0
"""Ready-made callbacks under LitServe's import path."""

from __future__ import annotations

from cubbyhole.api.callbacks import PredictionTimeLogger, RequestTracker

__all__ = ["PredictionTimeLogger", "RequestTracker"]
