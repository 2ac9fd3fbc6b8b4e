# SPDX-License-Identifier: Apache-2.0
"""LitServe's server options -> checked values for `ServerSettings` and `run`.

Each function takes one option as the user gave it and raises LitServe's error text, or returns the value that the rest works with.
"""

from __future__ import annotations

import json
import re
import socket
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from cubbyhole.api.callbacks import Callback

_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]i?)?B?\s*", re.IGNORECASE)
_POWERS = "kmgt"
NO_TIMEOUT = float("inf")


def check_path(name: str, path: str) -> str:
    """Return an HTTP path of the server's.

    Raises:
        ValueError: it does not start with "/".
    """
    if not path.startswith("/"):
        raise ValueError(
            f"{name} must start with '/'. Please provide a valid api path like '/health', '/info', or '/shutdown'"
        )
    return path


def timeout_seconds(timeout: float | bool | None) -> float:
    """Return the limit of a request in seconds; False, None and -1 mean none."""
    if timeout is None or timeout is False or timeout == -1:
        return NO_TIMEOUT
    return float(timeout)


def payload_bytes(limit: str | float | None, name: str = "max_payload_size") -> int | None:
    """Return the largest body in bytes; None: no limit of its own.

    Args:
        name: The option, for the error.
        limit: Bytes, or text such as "100MB" (10**6 bytes each) or "64MiB" (2**20).

    Raises:
        ValueError: not a size.
    """
    if limit is None:
        return None
    if not isinstance(limit, str):
        size_bytes = float(limit)
    else:
        match = _SIZE.fullmatch(limit)
        if match is None:
            raise ValueError(
                f"{name} must be bytes or text like '100MB' or '64MiB', but got {limit!r}"
            )
        unit = (match[2] or "").lower()
        base = 1024 if unit.endswith("i") else 1000
        power = _POWERS.index(unit[0]) + 1 if unit else 0
        size_bytes = float(match[1]) * base**power
    if size_bytes < 0:
        raise ValueError(f"{name} must be positive, but got {limit}")
    return int(size_bytes)


def check_metadata(metadata: Any) -> Any:
    """Return the model's metadata.

    Raises:
        ValueError: it has no JSON form.
    """
    try:
        json.dumps(metadata)
    except (TypeError, ValueError) as error:
        raise ValueError("model_metadata must be JSON serializable.") from error
    return metadata


def check_middlewares(middlewares: Any) -> list[Any]:
    """Return the user's middlewares as a list of its own.

    Raises:
        ValueError: not a list.
    """
    if middlewares is None:
        return []
    if not isinstance(middlewares, list):
        raise ValueError(  # noqa: TRY004  (LitServe's class)
            "middlewares must be a list of tuples where each tuple contains a middleware and its arguments. "
            "For example:\nserver = ls.LitServer(api, middlewares=[(RequestIdMiddleware, {'length': 5})])"
        )
    return list(middlewares)


def list_callbacks(callbacks: Any) -> list[Callback]:
    """Return the user's callbacks as a list.

    Raises:
        ValueError: something in it is none.
    """
    listed = [callbacks] if isinstance(callbacks, Callback) else callbacks or []
    if not isinstance(listed, (list, tuple)) or not all(isinstance(c, Callback) for c in listed):
        raise ValueError(f"Invalid callback type: {callbacks}")
    return list(listed)


def list_loggers(loggers: Any) -> list[Any]:
    """Return the user's loggers as a list.

    Raises:
        ValueError: something in it is none.
    """
    if loggers is None:
        return []
    from cubbyhole.api.loggers import check_loggers

    return list(check_loggers(loggers))


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def workers_of_each_api(
    workers_per_device: Any, paths: Sequence[str], name: str = "workers_per_device"
) -> list[int]:
    """Return how many workers each API gets on each device.

    Args:
        workers_per_device: One number, a list in the order of the APIs, or a mapping of their paths.
        paths: The APIs' paths.
        name: What the user called it.

    Raises:
        ValueError: a number below 1, a list of another length, an unknown path.
        TypeError: something else.
    """
    if isinstance(workers_per_device, bool) or not isinstance(
        workers_per_device, (int, list, tuple, Mapping)
    ):
        raise TypeError(
            f"{name} must be an int, a list/tuple of ints, or a mapping of api_path -> int"
        )
    if isinstance(workers_per_device, int):
        if workers_per_device < 1:
            raise ValueError(f"{name} must be >= 1")
        return [workers_per_device] * len(paths)
    if isinstance(workers_per_device, Mapping):
        unknown = sorted(set(workers_per_device) - set(paths))
        if unknown:
            raise ValueError(
                f"{name} contains unknown api_path values: {unknown} (unknown api_path)"
            )
        counts = [workers_per_device.get(path, 1) for path in paths]
    else:
        if len(workers_per_device) != len(paths):
            raise ValueError(
                f"{name} list length must match number of APIs \n"
                f"({len(paths)}), got {len(workers_per_device)}"
            )
        counts = list(workers_per_device)
    if not all(_is_count(count) for count in counts):
        raise ValueError(f"{name} values must be integers >= 1")
    return counts


def check_port(port: str | int) -> int:
    """Return a port; 0 takes a free one.

    Raises:
        ValueError: no number, or out of range.
    """
    text = f"port must be a value from 1024 to 65535 but got {port}"
    try:
        number = int(port)
    except (TypeError, ValueError) as error:
        raise ValueError(text) from error
    if number != 0 and not 1024 <= number <= 65535:
        raise ValueError(text)
    return number


def check_run(host: str, num_api_servers: int | None, api_server_worker_type: str | None) -> None:
    """Check the options of `run` that are passed on as they are.

    Args:
        host: An address of this machine, or a name of one.
        num_api_servers: HTTP processes; None: as many as are useful.
        api_server_worker_type: LitServe's two kinds; fronts are processes either way.

    Raises:
        ValueError: out of range.
    """
    try:
        socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError, TypeError) as error:
        raise ValueError(
            f"host must be '0.0.0.0', '127.0.0.1', or '::' but got {host} (another address of this machine will do)"
        ) from error
    if num_api_servers is not None and num_api_servers < 1:
        raise ValueError("num_api_servers must be greater than 0")
    if api_server_worker_type not in {None, "process", "thread"}:
        raise ValueError("Invalid value for api_server_worker_type. Must be 'process' or 'thread'")
    if api_server_worker_type == "thread":
        warnings.warn(
            "api_server_worker_type='thread' has no effect: fronts are processes.", stacklevel=3
        )


def check_fast_queue(fast_queue: bool) -> bool:
    """Return LitServe's switch for its ZeroMQ transport, and say that there is nothing to switch."""
    if fast_queue:
        warnings.warn(
            "fast_queue has no effect: requests travel in shared memory. LitServer(channel=...) has other ways.",
            stacklevel=3,
        )
    return fast_queue
