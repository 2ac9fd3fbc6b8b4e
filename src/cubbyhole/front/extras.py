# SPDX-License-Identifier: Apache-2.0
"""Options of `LitServer` that LitServe does not have, joined: each group has its own module.

Flow:  LitServer(**extras) -> **check_names** -> reliability.py, inspection.py
Owns:  nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cubbyhole.front.inspection import InspectionOptions
from cubbyhole.front.reliability import ReliabilityOptions

if TYPE_CHECKING:
    from collections.abc import Mapping


class ExtraOptions(ReliabilityOptions, InspectionOptions, total=False):
    """All of them; each may be left out."""


KNOWN = ReliabilityOptions.__annotations__.keys() | InspectionOptions.__annotations__.keys()


def check_names(options: Mapping[str, Any]) -> None:
    """Refuse what is no option.

    Raises:
        TypeError: there is no such option (the words of Python's own error).
    """
    for name in options:
        if name not in KNOWN:
            raise TypeError(f"LitServer.__init__() got an unexpected keyword argument {name!r}")
