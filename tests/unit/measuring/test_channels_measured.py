# SPDX-License-Identifier: Apache-2.0
"""`cubbyhole bench channels` and the runs behind it."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from cubbyhole.cli.main import build
from cubbyhole.measuring import channel_run, channels
from cubbyhole.measuring.jobs import Place, job_in_process

if TYPE_CHECKING:
    from collections.abc import Callable


def invoke(*words: str) -> Any:
    return CliRunner().invoke(build(), ["bench", "channels", *words])


def beside(folder: Path) -> Place:
    """Where modules of `folder` are found before all others."""
    path = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    return Place(environment={**os.environ, "PYTHONPATH": path})


@pytest.mark.timeout(120)
def test_each_channel_is_measured_and_each_run_is_in_the_file(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    result = invoke("--only", "shm,pipes", "--workloads", "bytes-64-x1,look", "--seconds", "0.1", "--repeat", "2",
                    "--json", str(file))  # fmt: skip
    assert result.exit_code == 0, result.output
    for words in ("round trips/s", "64 B, one in flight", "shm", "pipes"):
        assert words in result.stdout
    written = json.loads(file.read_text())
    # every channel has its turn at a load before the next load; the second time another begins
    turns = [(r["workload"], r["contender"]) for r in written["runs"]]
    first = [("bytes-64-x1", "shm"), ("bytes-64-x1", "pipes"), ("look", "shm"), ("look", "pipes")]
    assert turns == first + [(load, {"shm": "pipes", "pipes": "shm"}[kind]) for load, kind in first]
    run = written["runs"][0]
    parts = run["front_cpu_us"] + run["worker_cpu_us"] + run["other_cpu_us"]
    assert run["worker_cpu_us"] > 0
    assert run["cpu_us"] == pytest.approx(parts)
    assert written["machine"]["cores"] >= 1
    assert written["settings"]["seconds"] == 0.1


def test_a_channel_whose_package_is_missing_is_named_and_left_out(tmp_path: Path) -> None:
    (tmp_path / "zmq.py").write_text("raise ModuleNotFoundError('no zmq', name='zmq')\n")
    told: list[str] = []
    kinds = channels.loadable(["zmq", "pipes"], beside(tmp_path), told.append)
    assert kinds == ["pipes"]
    assert len(told) == 1
    assert "channel zmq is left out" in told[0]
    assert 'pip install "cubbyhole[zmq]"' in told[0]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--only", "shm,pigeon"), "pigeon"),
        (("--only", ","), "empty list"),
        (("--workloads", "heavy"), "heavy"),
        (("--json", "/no/such/folder/x.json"), "/no/such/folder"),
    ],
)
def test_what_there_is_not_is_refused_before_anything_runs(
    words: tuple[str, ...], text: str
) -> None:
    result = invoke(*words)
    assert result.exit_code == 2
    assert text in result.output


@pytest.mark.parametrize("size_bytes", [64, 1 << 20])
@pytest.mark.parametrize("at", [0, -1])
def test_a_wrong_answer_ends_the_run(size_bytes: int, at: int) -> None:
    class Lying:
        async def call(self, body: bytes) -> bytes:
            wrong = bytearray(body)
            wrong[at] ^= 1
            window.ended = True  # it was the last turn, whether or not it is seen
            return bytes(wrong)

    front: Any = Lying()
    window = channel_run.Window()
    with pytest.raises(ValueError, match="differs"):
        asyncio.run(channel_run.echo(front, window, 1, size_bytes))


def test_a_job_leaves_no_process_behind(tmp_path: Path, wait_until: Callable[..., Any]) -> None:
    (tmp_path / "leaving.py").write_text(
        "import json, subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'],\n"
        "    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)\n"
        "print(json.dumps(child.pid))\n"
    )
    child = job_in_process("leaving", {}, 30.0, beside(tmp_path))

    def ended() -> bool:
        try:
            text = Path(f"/proc/{child}/stat").read_text()
        except OSError:
            return True
        return text.rpartition(")")[2].split()[0] == "Z"  # nobody has asked for its exit status yet

    wait_until(ended)


def test_a_job_that_fails_says_why(tmp_path: Path) -> None:
    (tmp_path / "failing.py").write_text("raise RuntimeError('no room')\n")
    answer = job_in_process("failing", {}, 30.0, beside(tmp_path))
    assert answer == {"failures": 1, "example": "RuntimeError: no room"}
