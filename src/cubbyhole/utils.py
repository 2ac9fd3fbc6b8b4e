# SPDX-License-Identifier: Apache-2.0
"""LitServe's `utils`: what user code and user tests import from there. Most is kept elsewhere.

Flow:  users' tests -> `wrap_litserve_start` -> LitServer.launch_inference_worker -> wiring.launch
See:   observe/log.py, observe/debugging.py, core/statuses.py, front/tls.py, worker/loops/outputs.py
"""

from __future__ import annotations

import asyncio
import logging
import pickle
import sys
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, TextIO

from cubbyhole.core.statuses import WorkerSetupStatus
from cubbyhole.observe.debugging import set_trace, set_trace_if_debug
from cubbyhole.worker.loops.outputs import LitAPIStatus, LoopResponseType

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, MutableMapping

    from cubbyhole.front.http_errors import PickleableHTTPException
    from cubbyhole.server import LitServer

__all__ = [
    "LitAPIStatus",
    "LoopResponseType",
    "PickleableHTTPException",
    "ResponseBufferItem",
    "WorkerSetupStatus",
    "add_log_handler",
    "add_ssl_context_from_env",
    "azip",
    "call_after_stream",
    "configure_logging",
    "dump_exception",
    "is_package_installed",
    "set_log_level",
    "set_trace",
    "set_trace_if_debug",
    "wrap_litserve_start",
]

_LOGGER = "cubbyhole"
LOG_FORMAT = "%(asctime)s - %(processName)s[%(process)d] - %(name)s - %(levelname)s - %(message)s"


def __getattr__(name: str) -> Any:
    if (
        name == "PickleableHTTPException"
    ):  # FastAPI's, which a worker that only wants set_trace must not load
        from cubbyhole.front.http_errors import PickleableHTTPException

        return PickleableHTTPException
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@dataclass
class ResponseBufferItem:
    """What LitServe keeps for an open request. Here for specs of users that make their own."""

    event: asyncio.Event = field(default_factory=asyncio.Event)
    response: Any = None


def configure_logging(
    level: str | int = logging.INFO,
    format: str = LOG_FORMAT,  # noqa: A002  (LitServe's name)
    stream: TextIO = sys.stdout,
    use_rich: bool = False,
) -> None:
    """Send the package's records to a stream, and nowhere else.

    Args:
        level: The least severe to show.
        format: Of the `logging` module.
        stream: Where to.
        use_rich: Through rich, where it is installed.
    """
    logger = logging.getLogger(_LOGGER)
    for old in list(logger.handlers):
        logger.removeHandler(old)
    handler: logging.Handler
    if use_rich and is_package_installed("rich"):
        from rich.console import Console
        from rich.logging import RichHandler

        handler = RichHandler(console=Console(file=stream), show_path=False)
    else:
        handler = logging.StreamHandler(stream)
        handler.setFormatter(logging.Formatter(format))
    logger.addHandler(handler)
    logger.setLevel(level)
    logger.propagate = False


def set_log_level(level: str | int) -> None:
    """Set the least severe level of the package's records."""
    logging.getLogger(_LOGGER).setLevel(level)


def add_log_handler(handler: logging.Handler) -> None:
    """Send the package's records to one more handler."""
    logging.getLogger(_LOGGER).addHandler(handler)


def is_package_installed(package_name: str) -> bool:
    """Whether a package could be imported; does not import it."""
    try:
        return find_spec(package_name) is not None
    except (ImportError, ValueError):  # the parent of a dotted name, or a name that is none
        return False


def add_ssl_context_from_env(kwargs: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Return uvicorn's options with the certificate of LIGHTNING_CERT_PEM and LIGHTNING_KEY_FILE."""
    from cubbyhole.front.tls import options_from_environment

    return options_from_environment(dict(kwargs))


def dump_exception(exception: BaseException) -> bytes:
    """Pickle an exception; one that cannot be pickled becomes a RuntimeError with its text."""
    from cubbyhole.front.http_errors import portable

    exception = portable(exception)
    try:
        return pickle.dumps(exception)
    except (pickle.PicklingError, TypeError, AttributeError):
        return pickle.dumps(RuntimeError(f"{type(exception).__name__}: {exception}"))


async def call_after_stream(
    streamer: AsyncIterator[Any], callback: Callable[..., Any], *args: Any, **kwargs: Any
) -> AsyncIterator[Any]:
    """Go through a stream and call something at its end, however it ends."""
    try:
        async for item in streamer:
            yield item
    finally:
        callback(*args, **kwargs)


async def azip(*async_iterables: Any) -> AsyncIterator[tuple[Any, ...]]:
    """`zip` for asynchronous iterables: stops at the shortest; over nothing it is empty; errors are passed on."""
    iterators = [iterable.__aiter__() for iterable in async_iterables]
    while iterators:
        items = await asyncio.gather(
            *(iterator.__anext__() for iterator in iterators), return_exceptions=True
        )
        for item in items:
            if isinstance(item, StopAsyncIteration):
                return
            if isinstance(item, BaseException):
                raise item
        yield tuple(items)


@contextmanager
def wrap_litserve_start(server: LitServer, worker_monitor: bool = False) -> Iterator[LitServer]:
    """Start a server's workers for a test; its `app` is run by the test itself.

    Does not wait until the workers are ready: `/health` says when. They are watched, as under `run()`.

    Args:
        server: Its `app` serves as long as this lasts, e.g. in `TestClient(server.app)`.
        worker_monitor: LitServe's switch. Workers are always watched here.
    """
    del worker_monitor
    server.launch_inference_worker(server.lit_apis[0])
    try:
        yield server
    finally:
        server.stop_inference_workers()
