# SPDX-License-Identifier: Apache-2.0
"""APIs over a number: `{"input": 4.0}` -> `{"output": 16.0}`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cubbyhole.api.lit_api import LitAPI

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class SimpleLitAPI(LitAPI):
    """Squares a number."""

    def setup(self, device: Any) -> None:
        """Make the model."""
        del device
        self.model: Callable[[Any], Any] = lambda x: x**2

    def decode_request(self, request: dict[str, Any]) -> Any:
        """Take the number."""
        return request["input"]

    def predict(self, x: Any) -> Any:
        """Square it."""
        return self.model(x)

    def encode_response(self, output: Any) -> dict[str, Any]:
        """Name it."""
        return {"output": output}


class SimpleBatchedAPI(LitAPI):
    """Squares numbers, as arrays: float (batch,)."""

    def setup(self, device: Any) -> None:
        """Make the model."""
        del device
        self.model: Callable[[Any], Any] = lambda x: x**2

    def decode_request(self, request: dict[str, Any]) -> Any:
        """Take the number as an array without dimensions."""
        import numpy as np

        return np.asarray(request["input"])

    def predict(self, x: Any) -> Any:
        """Square them."""
        return self.model(x)

    def encode_response(self, output: Any) -> dict[str, float]:
        """Name it."""
        return {"output": float(output)}


class SimpleTorchAPI(LitAPI):
    """Doubles a number and adds one, by a linear layer: 4.0 -> 9.0."""

    def setup(self, device: Any) -> None:
        """Make the layer: weight 2, bias 1."""
        import torch

        layer = torch.nn.Linear(1, 1)
        with torch.no_grad():
            layer.weight.fill_(2.0)
            layer.bias.fill_(1.0)
        self.model = layer.to(device).eval()
        self.on = device

    def decode_request(self, request: dict[str, Any]) -> Any:
        """Make a tensor of one number: float32 (1,)."""
        import torch

        return torch.tensor([request["input"]], dtype=torch.float32, device=self.on)

    def predict(self, x: Any) -> Any:
        """Run the layer, on float32 (1, 1)."""
        import torch

        with torch.inference_mode():
            return self.model(x[None, :])

    def encode_response(self, output: Any) -> dict[str, float]:
        """Name it."""
        return {"output": float(output)}


class SimpleStreamAPI(LitAPI):
    """Streams three lines: construct it with `stream=True`."""

    def setup(self, device: Any) -> None:
        """Make the model."""
        del device
        self.model: Callable[[int, Any], str] = lambda number, x: f"{number}: {x}"

    def decode_request(self, request: dict[str, Any]) -> Any:
        """Take the input."""
        return request["input"]

    def predict(self, x: Any) -> Iterator[str]:
        """Yield the lines."""
        for number in range(3):
            yield self.model(number, x)

    def encode_response(self, output: Iterator[str]) -> Iterator[dict[str, str]]:
        """Name each."""
        for line in output:
            yield {"output": line}
