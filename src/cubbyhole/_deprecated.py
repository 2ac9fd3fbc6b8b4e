# SPDX-License-Identifier: Apache-2.0
"""LitServe's parameters that moved from `LitServer` to `LitAPI`: the table, and what still honours them.

Each still works: it sets the value of every LitAPI of the server, with a DeprecationWarning that names the new place.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_BATCHING = (
    "'max_batch_size' and 'batch_timeout' are being deprecated in `LitServer` and will be removed in version v0.3.0. "
    "Set them in the LitAPI: `LitAPI(max_batch_size=..., batch_timeout=...)`."
)
_MOVED = (
    "The {name} parameter is being deprecated in `LitServer` and will be removed in version v0.3.0. "
    "Set it in the LitAPI: `LitAPI({name}=...)`."
)

# Parameter of LitServer -> (its default, which means "not given"; the warning).
MOVED_TO_LITAPI: dict[str, tuple[Any, str]] = {
    "max_batch_size": (None, _BATCHING),
    "batch_timeout": (0.0, _BATCHING),
    "stream": (False, _MOVED.format(name="stream")),
    "api_path": (None, _MOVED.format(name="api_path")),
    "loop": (None, _MOVED.format(name="loop")),
    "spec": (None, _MOVED.format(name="spec")),
}


def apply_moved(lit_apis: Sequence[Any], given: Mapping[str, Any]) -> None:
    """Set on each LitAPI what was given to the server, and warn once for each text."""
    told = set()
    for name, (default, text) in MOVED_TO_LITAPI.items():
        value = given[name]
        if value is default or value == default:
            continue
        if text not in told:
            warnings.warn(text, DeprecationWarning, stacklevel=4)
            told.add(text)
        if name == "loop" and isinstance(value, str):
            continue  # as in LitServe: only a loop itself takes effect here
        for lit_api in lit_apis:
            setattr(lit_api, name, value)
