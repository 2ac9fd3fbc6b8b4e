# SPDX-License-Identifier: Apache-2.0
"""User code that may block, beside the event loop of an asynchronous worker.

Flow:  runner.py, streams.py -> in_thread(hook);  an asynchronous generator -> thread_iterator -> a synchronous hook in a thread
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

END = object()  # what `next` gives when a generator is through


class ThreadIterator:
    """An asynchronous generator as a plain iterator, for a synchronous `encode_response` that runs in a thread."""

    def __init__(self, source: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._source = source
        self._loop = loop

    def __iter__(self) -> ThreadIterator:
        return self

    def __next__(self) -> Any:
        import asyncio

        value = asyncio.run_coroutine_threadsafe(self._step(), self._loop).result()
        if value is END:
            raise StopIteration
        return value

    async def _step(self) -> Any:
        return await anext(self._source, END)


async def in_thread(call: Callable[..., Any], *args: Any) -> Any:
    """Run a call that may block beside the event loop."""
    import asyncio

    return await asyncio.to_thread(call, *args)


def thread_iterator(source: Any) -> ThreadIterator:
    """Make a `ThreadIterator` for the running event loop."""
    import asyncio

    return ThreadIterator(source, asyncio.get_running_loop())
