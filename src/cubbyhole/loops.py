# SPDX-License-Identifier: Apache-2.0
"""Loops under LitServe's import path. They are kept in worker/loops/, each in its own module."""

from __future__ import annotations

from cubbyhole.worker.loops.base import LitLoop
from cubbyhole.worker.loops.batched import BatchedLoop
from cubbyhole.worker.loops.choose import get_default_loop
from cubbyhole.worker.loops.continuous import ContinuousBatchingLoop
from cubbyhole.worker.loops.outputs import Output
from cubbyhole.worker.loops.single import SingleLoop
from cubbyhole.worker.loops.streaming import BatchedStreamingLoop, StreamingLoop
from cubbyhole.worker.main import run_worker as inference_worker

__all__ = [
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
