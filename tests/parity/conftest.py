# SPDX-License-Identifier: Apache-2.0
"""Running servers for the parity tests: real workers, real HTTP."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from cubbyhole.testing.serving import serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cubbyhole.server import LitServer
    from cubbyhole.testing.serving import Served


@pytest.fixture(scope="module")
def serve() -> Iterator[Callable[..., Served]]:
    """`serve(LitServer(...))`: runs until the module's tests are done; the same server is started once."""
    with ExitStack() as stack:
        started: dict[Any, Served] = {}

        def start(make: Callable[[], LitServer]) -> Served:
            if make not in started:
                started[make] = stack.enter_context(serving(make()))
            return started[make]

        yield start
