# SPDX-License-Identifier: Apache-2.0
"""Section 4: run() and the processes of a server."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING, Any

import pytest
import requests
from parity_apis import Square

import cubbyhole as ls
from cubbyhole.testing.serving import running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cubbyhole.testing.serving import Served

SCRIPT = """
import os
import cubbyhole as ls
from pydantic import BaseModel

class Who(ls.LitAPI):
    def predict(self, x):
        return {"id": os.environ["LITSERVE_WORKER_ID"], "pid": os.getpid()}

if __name__ == "__main__":
    server = ls.LitServer(Who(), workers_per_device=2)

    @server.app.get("/extra")
    def extra():
        return {"extra": os.getpid()}

    server.run(port=0, num_api_servers=2, generate_client_file=False, timeout_keep_alive=7)
"""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    script = tmp_path_factory.mktemp("run") / "server.py"
    script.write_text(SCRIPT)
    with running([sys.executable, str(script)]) as served:
        yield served


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"port": 80}, "port must be a value from 1024 to 65535 but got 80"),
        ({"port": "x"}, "port must be a value from 1024 to 65535 but got x"),
        ({"host": "no such host!"}, "host must be '0.0.0.0', '127.0.0.1', or '::' but got"),
        ({"num_api_servers": 0}, "num_api_servers must be greater than 0"),
        (
            {"api_server_worker_type": "x"},
            "Invalid value for api_server_worker_type. Must be 'process' or 'thread'",
        ),
    ],
)
def test_wrong_options_are_refused_before_anything_starts(options: Any, text: str) -> None:
    with pytest.raises(ValueError) as caught:
        ls.LitServer(Square()).run(generate_client_file=False, **options)
    assert text in str(caught.value)


def test_workers_have_their_number_in_the_environment(served: Served) -> None:
    answers = [requests.post(f"{served.url}/predict", json=1, timeout=10).json() for _ in range(20)]
    assert {answer["id"] for answer in answers} <= {"0", "1"}
    assert len({answer["pid"] for answer in answers}) <= 2


def test_routes_that_the_script_added_are_served(served: Served) -> None:
    assert requests.get(f"{served.url}/extra", timeout=10).json()["extra"] != served.pid


def test_scripts_find_uvicorns_lines_once_the_port_is_open(served: Served) -> None:
    """Defect 28: the line came before the socket listened."""
    output = served.output()
    assert "Uvicorn running on http://127.0.0.1:" in output
    assert "(Press CTRL+C to quit)" in output
    assert "Application startup complete." in output
    assert "Swagger UI is available at http://" in output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_it_with_exit_code_0(tmp_path: Path, number: signal.Signals) -> None:
    """Defect 23: SIGTERM left orphans that went on serving."""
    script = tmp_path / "server.py"
    script.write_text(SCRIPT)
    with running([sys.executable, str(script)]) as served:
        url = served.url
        assert served.stop(number) == 0
        with pytest.raises(requests.ConnectionError):
            requests.get(url, timeout=2)


def test_a_setup_that_raises_ends_the_start(tmp_path: Path) -> None:
    script = tmp_path / "server.py"
    script.write_text(
        SCRIPT.replace(
            "    def predict", "    def setup(self, device): raise OSError\n    def predict"
        )
    )
    with pytest.raises(RuntimeError, match=r"One or more workers failed to start\. Shutting down"):
        running([sys.executable, str(script)]).__enter__()
