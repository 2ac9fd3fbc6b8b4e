# SPDX-License-Identifier: Apache-2.0
"""The server of test_torch.py. Needs torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import torch

import cubbyhole as ls


class Doubled(ls.LitAPI):
    """Twice the tensor, written where it is sent from."""

    answer_formats: ClassVar[tuple[str, ...]] = ("npy",)

    def decode_request(self, request: torch.Tensor) -> torch.Tensor:
        """Take it as it came."""
        return request

    def predict(self, x: torch.Tensor, reserve: Any) -> torch.Tensor:
        """Double."""
        out = torch.from_numpy(reserve(x.shape, str(x.numpy().dtype)))
        return torch.mul(x, 2, out=out)


class Named(ls.LitAPI):
    """Tensors by name, and which types they have."""

    def decode_request(self, request: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Take them as they came."""
        return request

    def predict(self, x: dict[str, torch.Tensor]) -> dict[str, Any]:
        """Tell."""
        return {name: [str(one.dtype), one.float().sum().item()] for name, one in x.items()}


class Where(ls.LitAPI):
    """In whose memory the tensor lies."""

    def decode_request(self, request: torch.Tensor) -> torch.Tensor:
        """Take it as it came."""
        return request

    def predict(self, x: torch.Tensor) -> str:
        """Look it up."""
        for line in Path("/proc/self/maps").read_text().splitlines():
            span, *_, name = line.split(maxsplit=5)
            start, end = (int(one, 16) for one in span.split("-"))
            if start <= x.data_ptr() < end:
                return name
        return ""


class Scribbled(ls.LitAPI):
    """Writes over what came, as models do that normalise in place."""

    def decode_request(self, request: torch.Tensor) -> torch.Tensor:
        """Take it as it came."""
        return request

    def predict(self, x: torch.Tensor) -> float:
        """Add one to all, and sum up."""
        return float(x.add_(1).sum())


def make_server() -> ls.LitServer:
    """Build it."""
    apis = [
        Doubled(api_path="/doubled"),
        Named(api_path="/named"),
        Where(api_path="/where"),
        Scribbled(api_path="/scribbled"),
    ]
    return ls.LitServer(apis, handover=True)
