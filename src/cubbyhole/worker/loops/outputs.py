# SPDX-License-Identifier: Apache-2.0
"""LitServe's words for what a loop gives back: `Output`, `LitAPIStatus`, `LoopResponseType`."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any


class LitAPIStatus:
    """How it stands with a request."""

    START = "START"
    OK = "OK"
    ERROR = "ERROR"
    FINISH_STREAMING = "FINISH_STREAMING"


class LoopResponseType(enum.Enum):
    """Whether data is an answer or a chunk of one."""

    REGULAR = "REGULAR"
    STREAMING = "STREAMING"


@dataclass
class Output:
    """What one step of continuous batching gave for one request.

    Attributes:
        uid: As in `add_request`.
        output: For `encode_response`; None or "" sends nothing.
        status: `LitAPIStatus.OK`; FINISH_STREAMING ends the stream after this, ERROR fails it.
    """

    uid: str
    output: Any
    status: str = LitAPIStatus.OK
