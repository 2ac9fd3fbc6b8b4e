# SPDX-License-Identifier: Apache-2.0
"""LitServe's words for the states of a worker. Those of an answer are in worker/loops/outputs.py."""

from __future__ import annotations


class WorkerSetupStatus:
    """The states of a worker, as `LitServer.workers_setup_status` tells them."""

    STARTING = "starting"
    READY = "ready"
    ERROR = "error"
    FINISHED = "finished"
