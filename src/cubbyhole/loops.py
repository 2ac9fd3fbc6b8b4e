# SPDX-License-Identifier: Apache-2.0
"""Loops under LitServe's import path. They are kept in worker/loops/, each in its own module."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOMES = {
    "BatchedLoop": "batched",
    "BatchedStreamingLoop": "streaming",
    "ContinuousBatchingLoop": "continuous",
    "LitLoop": "base",
    "Output": "continuous",
    "SingleLoop": "single",
    "StreamingLoop": "streaming",
    "get_default_loop": "choose",
}

__all__ = [  # noqa: F822  (given by __getattr__)
    "BatchedLoop",
    "BatchedStreamingLoop",
    "ContinuousBatchingLoop",
    "LitLoop",
    "Output",
    "SingleLoop",
    "StreamingLoop",
    "get_default_loop",
    "inference_worker",
]


def __getattr__(name: str) -> Any:
    if name == "inference_worker":
        from cubbyhole.worker.main import run_worker

        return run_worker
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"cubbyhole.worker.loops.{home}"), name)
