# SPDX-License-Identifier: Apache-2.0
"""Which loop an API gets: a table by stream and batch. Each has its asynchronous half within."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cubbyhole.worker.loops.base import LitLoop

_LOOPS = {  # (stream, batch)
    (False, False): "cubbyhole.worker.loops.single:SingleLoop",
    (False, True): "cubbyhole.worker.loops.batched:BatchedLoop",
    (True, False): "cubbyhole.worker.loops.streaming:StreamingLoop",
    (True, True): "cubbyhole.worker.loops.streaming:BatchedStreamingLoop",
}


def get_default_loop(stream: bool, max_batch_size: int, enable_async: bool = False) -> LitLoop:
    """Return the loop for an API; asynchronous APIs get the same loops, which serve them on an event loop."""
    del enable_async
    module, _, name = _LOOPS[stream, max_batch_size > 1].partition(":")
    loop: LitLoop = getattr(import_module(module), name)()
    return loop
