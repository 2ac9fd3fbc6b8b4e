# SPDX-License-Identifier: Apache-2.0
"""Requests made up from each server's own OpenAPI document, right ones and wrong ones: none costs a 5xx, none costs a worker.

`just fuzz-http` tries many more than a test run. 501 and 503 are answers by design (not offered; full or starting).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings

from cubbyhole.testing.serving import serving

schemathesis: Any = pytest.importorskip(
    "schemathesis", reason="schemathesis is not installed: pip install schemathesis"
)

SERVERS = Path(__file__).with_name("schema_servers.py")
KINDS = ["plain", "typed", "inference_protocol", "chat", "embeddings"]
EXAMPLES = int(os.environ.get("CUBBYHOLE_HTTP_EXAMPLES", "6"))
SEED = int(os.environ.get("CUBBYHOLE_HTTP_SEED", "20"))
BY_DESIGN = {501, 503}
BROKEN = [
    b"",
    b"{",
    b"[1,",
    b"\xff\xfe",
    b"null",
    b'"x"',
    b"{}",
    b"[]",
    b"NaN",
    b"1e999",
    b'{"a"' * 2,
]
BROKEN += [
    b"[" * 3000,
    b'{"a":' * 3000 + b"1" + b"}" * 3000,
    b"9" * 6000,
    b'"\\ud800"',
    b"\x00" * 64,
]
TYPES = ["application/json", "a", "multipart/form-data"]


def everything(url: str) -> list[Any]:
    """The operations of the server's document."""
    schema = schemathesis.openapi.from_url(url + "/openapi.json")
    return [result.ok() for result in schema.get_all_operations()]


def problem(case: Any, answer: Any) -> str:
    """What is wrong with an answer; empty: nothing."""
    status = answer.status_code
    if status >= 500 and status not in BY_DESIGN:
        return f"{status} for {case.as_curl_command()[:1500]}: {answer.text[:300]}"
    return ""


@pytest.mark.timeout(120 + EXAMPLES * 10)
@pytest.mark.parametrize("kind", KINDS)
def test_no_made_up_request_costs_a_5xx_or_a_worker(kind: str) -> None:
    wrong: list[str] = []
    with serving(f"{SERVERS}:{kind}", arguments=["--fronts", "1"]) as server:
        operations = everything(server.url)
        assert operations
        for operation in operations:
            modes = [schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE]
            for mode in modes:
                strategy = operation.as_strategy(generation_mode=mode)

                @seed(SEED)
                @settings(
                    max_examples=EXAMPLES,
                    deadline=None,
                    database=None,
                    phases=[Phase.generate],
                    suppress_health_check=list(HealthCheck),
                )
                @given(strategy)
                def ask(case: Any) -> None:
                    found = problem(case, case.call(base_url=server.url, timeout=20))
                    if found:
                        wrong.append(found)

                ask()
        output = server.output()
        assert server.stop() == 0
    assert wrong == []
    assert "replaced" not in output


@pytest.mark.timeout(120)
@pytest.mark.parametrize("kind", KINDS)
def test_no_broken_body_costs_a_5xx_or_a_worker(kind: str) -> None:
    wrong = []
    with serving(f"{SERVERS}:{kind}", arguments=["--fronts", "1"]) as server:
        paths = httpx.get(server.url + "/openapi.json").json()["paths"]
        posts = [path for path, methods in paths.items() if "post" in methods]
        assert posts
        with httpx.Client(base_url=server.url, timeout=20) as client:
            for path in posts:
                for body in BROKEN:
                    for content_type in TYPES:
                        answer = client.post(
                            path, content=body, headers={"content-type": content_type}
                        )
                        if answer.status_code >= 500 and answer.status_code not in BY_DESIGN:
                            sent = (path, content_type, body[:40])
                            wrong.append((answer.status_code, sent, answer.text[:200]))
        output = server.output()
        assert server.stop() == 0
    assert wrong == []
    assert "replaced" not in output
