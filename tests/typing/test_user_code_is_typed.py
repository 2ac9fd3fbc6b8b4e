# SPDX-License-Identifier: Apache-2.0
"""User code with and without annotations passes the type checkers, and what it gets from us is typed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import cubbyhole

SOURCE = Path(cubbyhole.__file__).parents[1]

ANNOTATED = """
from collections.abc import AsyncIterator, Iterator
from typing import Any

from pydantic import BaseModel

import cubbyhole as ls
from cubbyhole.mcp import MCP
from cubbyhole.specs.openai import ChatCompletionRequest, ChatMessage


class Item(BaseModel):
    name: str


class Typed(ls.LitAPI):
    def setup(self, device: str) -> None:
        self.factor = 2.0

    def decode_request(self, request: Item) -> str:
        return request.name

    def batch(self, inputs: list[str]) -> list[str]:
        return inputs

    def predict(self, texts: list[str], context: list[dict[str, Any]]) -> list[str]:
        return [text * 2 for text in texts]

    def unbatch(self, output: list[str]) -> list[str]:
        return output

    def encode_response(self, output: str) -> Item:
        return Item(name=output)

    def health(self) -> bool:
        return True


class Chat(ls.LitAPI):
    def predict(self, request: ChatCompletionRequest) -> Iterator[ChatMessage]:
        last = request.messages[-1]
        reveal_type(last)
        yield ChatMessage(role="assistant", content=last.role)


class Async(ls.LitAPI):
    async def predict(self, x: float) -> AsyncIterator[float]:
        yield x

    async def encode_response(self, output: AsyncIterator[float]) -> AsyncIterator[str]:
        async for value in output:
            yield str(value)


class Losses(ls.Logger):
    def process(self, key: str, value: float) -> None:
        self.last = (key, value)


class Hears(ls.Callback):
    def on_after_predict(self, lit_api: ls.LitAPI) -> None:
        lit_api.log("done", 1)

    def on_request(self, active_requests: int | None, litserver: ls.LitServer, **kwargs: Any) -> None:
        pass


apis = [Typed(max_batch_size=4, mcp=MCP(description="x")), Chat(spec=ls.OpenAISpec(), api_path="/c")]
server = ls.LitServer(apis, callbacks=[Hears()], loggers=Losses(), workers_per_device={"/predict": 2})
server.app.add_api_route("/x", lambda: 1)
reveal_type(server.app)
"""

PLAIN = """
import cubbyhole as ls


class Plain(ls.LitAPI):
    def setup(self, device):
        self.model = lambda x: x**2

    def decode_request(self, request):
        return request["input"]

    def predict(self, x, context):
        return self.model(x)

    def encode_response(self, output):
        return {"output": output}


if __name__ == "__main__":
    ls.LitServer(Plain(), accelerator="auto", max_payload_size="10MB").run(port=8000)
"""


def check(tool: list[str], path: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    if (
        SOURCE.name == "src"
    ):  # a checkout; what is installed mypy finds by itself, and refuses to be told
        environment["MYPYPATH"] = str(SOURCE)
    return subprocess.run(
        [sys.executable, "-m", *tool, str(path)],
        capture_output=True,
        text=True,
        check=False,
        cwd=path.parent,
        env=environment,
    )


@pytest.mark.timeout(120)  # a type checker reads FastAPI and pydantic
@pytest.mark.parametrize(("name", "text"), [("annotated", ANNOTATED), ("plain", PLAIN)])
def test_mypy_passes_user_code(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / f"{name}.py"
    path.write_text(text)
    strict = ["--strict"] if name == "annotated" else []
    done = check(["mypy", "--follow-imports=silent", *strict], path)
    assert done.returncode == 0, done.stdout
    if name == "annotated":
        assert "ChatMessage" in done.stdout, "a name that is Any would tell nothing"
        assert "fastapi.applications.FastAPI" in done.stdout


@pytest.mark.timeout(120)
@pytest.mark.parametrize("text", [ANNOTATED, PLAIN], ids=["annotated", "plain"])
def test_pyright_passes_user_code(tmp_path: Path, text: str) -> None:
    pytest.importorskip("pyright", reason="pyright is not installed")
    path = tmp_path / "user.py"
    path.write_text(text)
    done = check(["pyright", "--pythonpath", sys.executable], path)
    assert "0 errors" in done.stdout, done.stdout


def test_the_package_says_that_it_is_typed() -> None:
    assert (SOURCE / "cubbyhole" / "py.typed").exists()
