# SPDX-License-Identifier: Apache-2.0
"""What the first use of a name costs: a worker that answers with a Response does so in the middle of a request."""

from __future__ import annotations

import subprocess
import sys

import fastapi
import pytest

import cubbyhole


@pytest.mark.parametrize("name", ["Request", "Response"])
def test_a_response_is_fastapis_and_does_not_import_fastapi(name: str) -> None:
    """FastAPI takes 0.7 s of CPU to import; on a busy machine a worker's first answer missed its deadline by it."""
    assert getattr(cubbyhole, name) is getattr(fastapi, name)
    code = f"import cubbyhole, sys; cubbyhole.{name}; sys.exit('fastapi' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
