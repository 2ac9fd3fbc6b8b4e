# SPDX-License-Identifier: Apache-2.0
"""Section 21: the Dockerfile generator, its command, and the client file."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import cubbyhole as ls
from cubbyhole.docker_builder import dockerize


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "server.py").write_text("")
    return tmp_path


def test_the_cpu_image_has_litserves_lines(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "requirements.txt").write_text("numpy\n")
    dockerize("server.py", port=8001)
    lines = (folder / "Dockerfile").read_text().splitlines()
    assert "ARG PYTHON_VERSION=3.12" in lines
    assert "FROM python:$PYTHON_VERSION-slim" in lines
    assert "WORKDIR /app" in lines
    assert "COPY . /app" in lines
    assert "EXPOSE 8001" in lines
    assert 'CMD ["python", "/app/server.py"]' in lines
    install = next(line for line in lines if "pip install" in line)
    assert install.startswith("RUN pip install --no-cache-dir cubbyhole")
    assert install.endswith(" -r requirements.txt")
    shown = capsys.readouterr().out
    assert "Dockerfile created successfully" in shown
    assert "docker build" in shown


def test_the_gpu_image_has_cuda_and_a_python_of_its_own(folder: Path) -> None:
    (folder / "requirements.txt").write_text("")
    dockerize("server.py", gpu=True)
    text = (folder / "Dockerfile").read_text()
    assert "FROM nvidia/cuda:12.4.1-base-ubuntu22.04" in text
    assert "ppa:deadsnakes/ppa" in text


def test_missing_requirements_are_warned_of(folder: Path) -> None:
    with pytest.warns(
        UserWarning, match=r"requirements\.txt not found at .*\. Make sure to install"
    ):
        dockerize("server.py")
    assert "-r requirements.txt" not in (folder / "Dockerfile").read_text()


def test_a_script_elsewhere_is_refused(folder: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"Server file `no\.py` must be in the current directory"
    ):
        dockerize("no.py")


def test_the_command_writes_the_dockerfile(folder: Path) -> None:
    (folder / "requirements.txt").write_text("")
    command = [sys.executable, "-m", "cubbyhole", "dockerize", "server.py", "--port", "8002"]
    environment = {**os.environ, "PYTHONPATH": str(Path(ls.__file__).parents[1])}

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            words, capture_output=True, text=True, check=False, cwd=folder, env=environment
        )

    done = run(*command)
    assert done.returncode == 0, done.stderr
    assert "EXPOSE 8002" in (folder / "Dockerfile").read_text()
    done = run(*command[:4], "no.py")
    assert done.returncode == 1
    assert "must be in the current directory" in done.stdout


def test_the_client_file_is_litserves_and_kept_if_it_is_there(folder: Path) -> None:
    ls.LitServer.generate_client_file(8003)
    text = (folder / "client.py").read_text()
    assert text.splitlines()[0].startswith("#")
    assert "import requests" in text
    assert 'response = requests.post("http://127.0.0.1:8003/predict", json={"input": 4.0})' in text
    assert r'print(f"Status: {response.status_code}\nResponse:\n {response.text}")' in text
    (folder / "client.py").write_text("mine")
    ls.LitServer.generate_client_file(8004)
    assert (folder / "client.py").read_text() == "mine"
