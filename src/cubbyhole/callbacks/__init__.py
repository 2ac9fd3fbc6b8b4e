# SPDX-License-Identifier: Apache-2.0
"""Callbacks under LitServe's import path. They are kept in api/callbacks.py."""

from __future__ import annotations

from cubbyhole.api.callbacks import Callback, CallbackRunner, EventTypes, NoopCallback

__all__ = ["Callback", "CallbackRunner", "EventTypes", "NoopCallback"]
