# SPDX-License-Identifier: Apache-2.0
"""A promise in docs/reliability.md names a test that is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from cubbyhole.front.reliability import ReliabilityOptions

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "reliability.md").read_text()
NAMED = re.findall(r"`((?:tests|src)/[\w/]+\.py)::(\w+)`", TEXT)


def test_every_promise_names_its_test() -> None:
    rows = [row for row in TEXT.splitlines() if row.startswith("| ") and "---" not in row]
    promises = [row for row in rows if "kept by" not in row]
    assert len(promises) > 30
    assert [
        row for row in promises if not re.search(r"`(?:tests|src)/[\w/]+\.py::\w+` \|$", row)
    ] == []


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_a_test_that_is_named_is_there(file: str, name: str) -> None:
    functions = {
        node.name
        for node in ast.walk(ast.parse((ROOT / file).read_text()))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    }
    assert name in functions


@pytest.mark.parametrize("option", ReliabilityOptions.__annotations__)
def test_every_option_is_documented(option: str) -> None:
    pages = [page.read_text() for page in (ROOT / "docs").rglob("*.md")]
    assert any(option in page for page in pages)
    assert f" {option}: " in (ReliabilityOptions.__doc__ or "")
