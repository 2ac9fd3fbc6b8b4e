# SPDX-License-Identifier: Apache-2.0
"""All options of `LitServer` that LitServe does not have and that are not written out in its signature.

Flow:  LitServer(**extras) -> **check_names** -> reliability.py, visibility.py
Owns:  nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cubbyhole.front.reliability import ReliabilityOptions
from cubbyhole.front.visibility import VisibilityOptions

if TYPE_CHECKING:
    from collections.abc import Iterable


class ExtraOptions(ReliabilityOptions, VisibilityOptions, total=False):
    """Order, time and overload; seeing what a server does."""


def check_names(names: Iterable[str]) -> None:
    """Refuse options that there are not.

    Raises:
        TypeError: in the words of Python's own error.
    """
    for name in names:
        if name not in ExtraOptions.__annotations__:
            raise TypeError(f"LitServer.__init__() got an unexpected keyword argument {name!r}")
