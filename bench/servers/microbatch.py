# SPDX-License-Identifier: Apache-2.0
"""A hand-written micro-batcher for the in-process contenders, as a careful user would write one.

The model runs in one thread, so that the loop parses the next requests while a batch runs.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


class MicroBatcher:
    def __init__(self, model: Callable[[list[Any]], list[Any]], size: int, wait_s: float) -> None:
        self.model, self.size, self.wait_s = model, size, wait_s
        self.queue: asyncio.Queue[tuple[Any, asyncio.Future[Any]]] | None = None
        self.pool = ThreadPoolExecutor(1)

    async def __call__(self, x: Any) -> Any:
        loop = asyncio.get_running_loop()
        if self.queue is None:
            self.queue = asyncio.Queue()
            self.task = loop.create_task(self.pump(self.queue))
        future = loop.create_future()
        self.queue.put_nowait((x, future))
        return await future

    async def pump(self, queue: asyncio.Queue[tuple[Any, asyncio.Future[Any]]]) -> None:
        loop = asyncio.get_running_loop()
        while True:
            batch = [await queue.get()]
            until = loop.time() + self.wait_s
            while len(batch) < self.size:
                if not queue.empty():
                    batch.append(queue.get_nowait())
                    continue
                try:
                    batch.append(await asyncio.wait_for(queue.get(), until - loop.time()))
                except asyncio.TimeoutError:
                    break
            outputs = await loop.run_in_executor(self.pool, self.model, [x for x, _ in batch])
            for (_, future), y in zip(batch, outputs, strict=True):
                if not future.done():
                    future.set_result(y)
