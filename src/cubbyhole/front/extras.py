# SPDX-License-Identifier: Apache-2.0
"""All options of `LitServer` that LitServe does not have and that are not written out in its signature.

Flow:  LitServer(**extras) -> **check_names** -> reliability.py, visibility.py, inspection.py
Owns:  nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cubbyhole.front.inspection import InspectionOptions
from cubbyhole.front.reliability import ReliabilityOptions
from cubbyhole.front.visibility import VisibilityOptions

if TYPE_CHECKING:
    from collections.abc import Iterable


class ExtraOptions(ReliabilityOptions, VisibilityOptions, InspectionOptions, total=False):
    """Order, time and overload; telling what a server does; showing it. Each may be left out."""


KNOWN = (
    ReliabilityOptions.__annotations__.keys()
    | VisibilityOptions.__annotations__.keys()
    | InspectionOptions.__annotations__.keys()
)


def check_names(names: Iterable[str]) -> None:
    """Refuse options that there are not.

    Raises:
        TypeError: in the words of Python's own error.
    """
    for name in names:
        if name not in KNOWN:
            raise TypeError(f"LitServer.__init__() got an unexpected keyword argument {name!r}")
