# SPDX-License-Identifier: Apache-2.0
"""Options of `LitServer` for seeing what a server does, which LitServe does not have.

Flow:  LitServer(**options) -> **visibility_settings** -> fields of `ServerSettings`
Owns:  nothing.
See:   docs/guide/seeing.md, docs/guide/tracing.md

Each has an environment variable, too (`CUBBYHOLE_OTEL` and so on), so that who runs a server can switch it on without touching its
code; `cubbyhole serve --otel` sets it. What the code says wins.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from cubbyhole.front.options import payload_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping

SMALLEST_KEPT_BYTES = 1 << 20
TRACES_PER_S = 10.0  # spans of one request take about 1 ms of CPU in all


class VisibilityOptions(TypedDict, total=False):
    """Each may be left out.

    Attributes:
        otel: Send OpenTelemetry spans, with OTLP over HTTP: True (where to, the standard OTEL_* variables say) or a
            collector's base URL such as "http://localhost:4318". Needs the extra `otel`.
        otel_traces_per_s: How many traces a front begins by itself, 10 a second unless told; "all": one of every request. Requests
            whose client began a trace go by its sampled flag. OTEL_TRACES_SAMPLER takes the place of both.
        request_ids: Every answer of a model path has X-Request-ID: the number of the request's entry, where the client sent none. Off, only
            failures have it; a short answer is about 1.5 % cheaper without.
        keep_requests: Keep the last requests, bodies included, in memory of this size ("64MB"), so that `cubbyhole replay ID` can
            send one again. Failed ones are kept longer.
        post_mortem: A file in which the supervisor keeps the last state of all entries, without payloads, for `cubbyhole requests
            --file` and `inspect --file` after a crash of everything.
    """

    otel: bool | str | None
    otel_traces_per_s: float | str | None
    request_ids: bool
    keep_requests: str | int | None
    post_mortem: str | os.PathLike[str] | None


def visibility_settings(options: Mapping[str, Any]) -> dict[str, Any]:
    """Check the options and return the fields of `ServerSettings` that they stand for.

    Raises:
        ValueError: a value is out of range, or an extra is not installed.
    """
    return {
        "otel": _otel(_chosen(options, "otel")),
        "otel_traces_per_s": _traces_per_s(_chosen(options, "otel_traces_per_s")),
        "request_ids": _chosen(options, "request_ids") not in {None, False, "0", "false"},
        "keep_requests_bytes": _kept_bytes(_chosen(options, "keep_requests")),
        "post_mortem": _file(_chosen(options, "post_mortem")),
    }


def _chosen(options: Mapping[str, Any], name: str) -> Any:
    value = options.get(name)
    return os.environ.get(f"CUBBYHOLE_{name.upper()}") or None if value is None else value


def _otel(value: Any) -> str | None:
    if value is None or value is False or value in {"0", "false"}:
        return None
    if value is not True and value not in {"1", "true"} and "://" not in str(value):
        raise ValueError(
            f"otel must be True or a collector's URL such as http://localhost:4318, but got {value!r}"
        )
    if find_spec("opentelemetry") is None or find_spec("opentelemetry.exporter") is None:
        raise ValueError(
            "otel is on, but OpenTelemetry is not installed. Run: pip install 'cubbyhole[otel]'"
        )
    return str(value) if "://" in str(value) else ""


def _traces_per_s(value: Any) -> float | None:
    if value is None:
        return TRACES_PER_S
    if value == "all":
        return None
    try:
        per_s = float(value)
    except (TypeError, ValueError):
        per_s = -1.0
    if not 0 <= per_s < float("inf"):
        raise ValueError(
            f'otel_traces_per_s must be a number of 0 or more, or "all", but got {value!r}'
        )
    return per_s


def _kept_bytes(value: Any) -> int:
    size_bytes = payload_bytes(value, "keep_requests") or 0
    if 0 < size_bytes < SMALLEST_KEPT_BYTES:
        raise ValueError(
            f"keep_requests must be at least {SMALLEST_KEPT_BYTES:,} bytes, but got {size_bytes:,}"
        )
    return size_bytes


def _file(value: Any) -> str:
    if value is None:
        return ""
    path = Path(value).absolute()
    if not path.parent.is_dir():
        raise ValueError(f"post_mortem is {path}, but there is no folder {path.parent}. Make it.")
    return str(path)
