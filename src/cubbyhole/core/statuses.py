# SPDX-License-Identifier: Apache-2.0
"""LitServe's words for states, which loops and tests of users use."""

from __future__ import annotations

import enum


class LitAPIStatus:
    """What a loop says of an answer."""

    START = "START"
    OK = "OK"
    ERROR = "ERROR"
    FINISH_STREAMING = "FINISH_STREAMING"


class LoopResponseType(enum.Enum):
    """Whether an answer is whole or a part of a stream."""

    REGULAR = "REGULAR"
    STREAMING = "STREAMING"


class WorkerSetupStatus:
    """The states of a worker, as `LitServer.workers_setup_status` tells them."""

    STARTING = "starting"
    READY = "ready"
    ERROR = "error"
    FINISHED = "finished"
