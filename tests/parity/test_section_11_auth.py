# SPDX-License-Identifier: Apache-2.0
"""Section 11: who may ask."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

import pytest
import requests
from parity_apis import Guarded, Square

import cubbyhole as ls
import cubbyhole.server
from cubbyhole.testing.serving import running, serving

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cubbyhole.testing.serving import Served

    Serve = Callable[[Callable[[], ls.LitServer]], Served]

WRONG = "Invalid API Key. Check that you are passing a correct 'X-API-Key' in your header."
BODY = {"input": 4.0}


def several() -> ls.LitServer:
    return ls.LitServer([Square(), Guarded(api_path="/guarded")])


@pytest.fixture
def api_key(monkeypatch: pytest.MonkeyPatch) -> str:
    """As tests of users do it: the module's global is assigned."""
    monkeypatch.setattr(cubbyhole.server, "LIT_SERVER_API_KEY", "abcd")
    return "abcd"


def post(url: str, **headers: str) -> Any:
    return requests.post(url, json=BODY, headers=headers, timeout=10)


def test_a_key_guards_the_api_and_the_servers_own_paths(serve: Serve, api_key: str) -> None:
    url = serve(several).url
    for path in ("/", "/health", "/info"):
        assert requests.get(url + path, timeout=10).status_code == 401
        ok = requests.get(url + path, headers={"X-API-Key": api_key}, timeout=10)
        assert ok.status_code == 200
    missing = post(f"{url}/predict")
    assert (missing.status_code, missing.json()) == (401, {"detail": "Not authenticated"})
    wrong = post(f"{url}/predict", **{"X-API-Key": "abce"})
    assert (wrong.status_code, wrong.json()) == (401, {"detail": WRONG})
    assert post(f"{url}/predict", **{"X-API-Key": api_key}).json() == {"output": 16.0}


def test_a_key_does_not_leave_the_fast_lane(serve: Serve, api_key: str) -> None:
    headers = {"X-API-Key": api_key}
    info = requests.get(f"{serve(several).url}/info", headers=headers, timeout=10).json()
    assert info["server"]["lanes"] == {"/predict": "fast", "/guarded": "slow"}


def test_the_documents_are_never_guarded(serve: Serve, api_key: str) -> None:
    assert requests.get(f"{serve(several).url}/openapi.json", timeout=10).status_code == 200


def test_an_own_authorize_replaces_the_key(serve: Serve, api_key: str) -> None:
    url = f"{serve(several).url}/guarded"
    assert post(url, **{"X-API-Key": api_key}).status_code in {401, 403}
    refused = post(url, Authorization="Bearer 9")
    assert (refused.status_code, refused.json()) == (401, {"detail": "Bad token"})
    assert post(url, Authorization="Bearer 1234").json() == {"output": 16.0}


def test_without_a_key_everything_is_open(serve: Serve) -> None:
    assert post(f"{serve(several).url}/predict").status_code == 200


def test_a_spec_is_guarded_like_any_route(api_key: str) -> None:
    from parity_apis import Chat

    body = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
    with serving(ls.LitServer(Chat(spec=ls.OpenAISpec()))) as served:
        url = f"{served.url}/v1/chat/completions"
        assert requests.post(url, json=body, timeout=10).status_code == 401
        headers = {"X-API-Key": api_key}
        assert requests.post(url, json=body, headers=headers, timeout=10).status_code == 200


SCRIPT = """
import cubbyhole as ls
from cubbyhole.test_examples import SimpleLitAPI
if __name__ == "__main__":
    ls.LitServer(SimpleLitAPI(), enable_shutdown_api=True).run(port=0)
"""


def test_the_shutdown_endpoint_ends_the_server(tmp_path: Path) -> None:
    import sys

    script = tmp_path / "server.py"
    script.write_text(SCRIPT)
    environment = {"LIT_SHUTDOWN_API_KEY": "bye"}
    with running([sys.executable, str(script)], environment=environment) as served:
        url = f"{served.url}/shutdown"
        for headers in ({}, {"Authorization": "Bearer other"}):
            refused = requests.post(url, headers=headers, timeout=10)
            assert refused.status_code == 401
            assert "Invalid Bearer token for Shutdown API" in refused.json()["detail"]
        answer = requests.post(url, headers={"Authorization": "Bearer bye"}, timeout=10)
        assert answer.status_code == 200
        assert answer.text.strip('"') == "Server is initiating graceful shutdown."
        assert served.process is not None
        assert served.process.wait(10) == 0
        assert signal.SIGTERM  # nobody had to send one
