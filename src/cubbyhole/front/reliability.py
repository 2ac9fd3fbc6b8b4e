# SPDX-License-Identifier: Apache-2.0
"""Options of `LitServer` for order, time, overload and supervision, which LitServe does not have.

Flow:  LitServer(**options) -> **reliability_settings** -> fields of `ServerSettings`
Owns:  nothing.
See:   docs/reliability.md
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict

if TYPE_CHECKING:
    from collections.abc import Mapping


class ReliabilityOptions(TypedDict, total=False):
    """Each may be left out.

    Attributes:
        priorities: Clients may send X-Priority, 0 (most urgent) to 9; 5 where they do not. Off: the header means nothing, so that
            no client jumps the queue of a server whose operator did not say so.
    """

    priorities: bool


def reliability_settings(options: Mapping[str, Any]) -> dict[str, Any]:
    """Check the options and return the fields of `ServerSettings` that they stand for.

    Raises:
        TypeError: there is no such option (the words of Python's own error).
    """
    known = ReliabilityOptions.__annotations__
    for name in options:
        if name not in known:
            raise TypeError(f"LitServer.__init__() got an unexpected keyword argument {name!r}")
    return {"priorities": bool(options.get("priorities", False))}
