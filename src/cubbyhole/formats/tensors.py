# SPDX-License-Identifier: Apache-2.0
"""torch's tensors on the bytes of a body, and back. Imports torch, so only who has it comes here.

A tensor cannot be read-only, and torch warns of memory that is. The memory of a request belongs to its worker until it answers, so
a tensor that is written to changes nobody else's data; `tensor.clone()` is for who keeps it longer.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cubbyhole.core.entries import Buffer


def tensor_of(array: Any) -> Any:
    """Return a tensor on an array's memory."""
    import torch

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)


def read_tensors(body: Buffer) -> dict[str, Any]:
    """Read tensors by name from safetensors; BF16 stays bfloat16, without a copy.

    Raises:
        MalformedBody: it is not as the format says.
    """
    import numpy as np
    import torch

    from cubbyhole.formats import safetensors

    found = {}
    for name, (dtype, shape, data) in safetensors.read_raw(body).items():
        flat = tensor_of(np.frombuffer(data, safetensors.DTYPES[dtype]))
        found[name] = (flat.view(torch.bfloat16) if dtype == "BF16" else flat).reshape(shape)
    return found


def array_of(value: Any) -> Any:
    """Return what may be a tensor, on any device, as an array."""
    if hasattr(value, "detach") and hasattr(value, "numpy"):
        value = value.detach().cpu()
        return value.float().numpy() if str(value.dtype) == "torch.bfloat16" else value.numpy()
    return value
