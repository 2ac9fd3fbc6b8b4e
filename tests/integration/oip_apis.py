# SPDX-License-Identifier: Apache-2.0
"""APIs behind the Open Inference Protocol for the tests; workers import them from here."""

from __future__ import annotations

from typing import Any

import cubbyhole as ls

DATATYPES = (
    "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64", "BF16", "BYTES",
)  # fmt: skip


class Same(ls.LitAPI):
    """Gives each input back, and says what predict saw of it."""

    def predict(self, x: dict[str, Any]) -> dict[str, Any]:
        """Give the array back."""
        (array,) = x.values()
        assert not array.flags.writeable
        return {"y": array}


class Doubled(ls.LitAPI):
    """Takes a list of requests with batching."""

    def predict(self, x: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Double each."""
        return [{"y": one["x"] * 2} for one in x]


def same(datatype: str) -> ls.LitAPI:
    """Make a model named after its datatype."""
    tensor = (datatype, [-1, 2])
    return Same(spec=ls.OIPSpec(datatype.lower(), {"x": tensor}, {"y": tensor}, version="3"))


def doubled() -> ls.LitAPI:
    """Make a model that batches."""
    tensor = ("float32", [-1, 2])
    spec = ls.OIPSpec("doubled", {"x": tensor}, {"y": tensor})
    return Doubled(spec=spec, max_batch_size=4, batch_timeout=0.01)
