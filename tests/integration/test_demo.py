# SPDX-License-Identifier: Apache-2.0
"""`cubbyhole demo`, started as a newcomer starts it; its page in a real browser where one is installed."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from typer.testing import CliRunner

from cubbyhole.channels.registry import CHANNELS
from cubbyhole.cli.main import build
from cubbyhole.demo import show

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--window-size=1240,1000",
)  # fmt: skip

needs_model = pytest.mark.skipif(
    find_spec("rapidocr") is None or find_spec("onnxruntime") is None,
    reason="needs the extra: pip install '.[demo]'",
)
needs_browser = pytest.mark.skipif(
    BROWSER is None or DRIVER is None,
    reason="needs a browser: apt install chromium chromium-driver",
)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def start(*arguments: str, output: Any) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "cubbyhole", *arguments],
        env={**os.environ, "COLUMNS": "120"},
        stdout=output,
        stderr=subprocess.STDOUT,
    )


@needs_model
@pytest.mark.timeout(210)
@pytest.mark.parametrize("channel", CHANNELS)
def test_once_reads_the_samples_tells_and_ends_over_every_channel(
    channel: str, tmp_path: Path
) -> None:
    if channel == "zmq":
        pytest.importorskip("zmq", reason="needs the extra: pip install '.[zmq]'")
    log = tmp_path / "log"
    with log.open("wb") as output:
        command = ("demo", "--once", "--port", str(free_port()), "--channel", channel)
        process = start(*command, output=output)
        try:
            code = process.wait(timeout=180.0)
        finally:
            process.kill()
            process.wait()
    told = log.read_text()
    assert code == 0, told
    for words in ("Ready in", "TOTAL EUR  21.35", "Harbour  12 km", "Everybody may look.",
                  "READY  waits for a worker", f"channel: {channel}", "All 3 samples were read rightly."):  # fmt: skip
        assert words in told
    assert "Traceback" not in told


@needs_model
@pytest.mark.timeout(60)
def test_a_port_that_is_taken_is_told_in_one_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        process = start("demo", "--once", "--port", port, output=subprocess.PIPE)
        told = process.communicate(timeout=50.0)[0].decode()
    assert process.returncode == 1
    assert port in told
    assert len(told.strip().splitlines()) == 1, told


def test_without_the_extra_it_says_in_one_line_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(show, "NEEDED", ("a_package_that_nobody_has",))
    result = CliRunner().invoke(build(), ["demo"])
    assert result.exit_code == 1
    assert "pip install '.[demo]'" in result.output
    assert len(result.output.strip().splitlines()) == 1


class Page:
    """A browser's page through the WebDriver protocol, which is plain HTTP."""

    def __init__(self, session: str) -> None:
        self._client = httpx.Client(base_url=session, timeout=30.0)

    def post(self, path: str, **body: Any) -> Any:
        answer = self._client.post(path, json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()["value"]

    def run(self, script: str) -> Any:
        return self.post("/execute/sync", script=script, args=[])

    def close(self) -> None:
        self._client.delete("")
        self._client.close()


@contextmanager
def browser(profile: Path, wait_until: Callable[..., Any]) -> Iterator[Page]:
    port = free_port()
    with (profile / "driver.log").open("wb") as output:
        driver = subprocess.Popen([str(DRIVER), f"--port={port}"], stdout=output, stderr=output)
    base = f"http://127.0.0.1:{port}"

    def listening() -> bool:
        try:
            return bool(httpx.get(f"{base}/status").json()["value"]["ready"])
        except httpx.TransportError:
            return False

    page = None
    try:
        wait_until(listening)
        options = {"binary": BROWSER, "args": [*FLAGS, f"--user-data-dir={profile}"]}
        wanted = {"capabilities": {"alwaysMatch": {"goog:chromeOptions": options}}}
        session = httpx.post(f"{base}/session", json=wanted, timeout=30.0).json()["value"]
        page = Page(f"{base}/session/{session['sessionId']}")
        yield page
    finally:
        if page is not None:
            page.close()
        driver.terminate()
        driver.wait()


@contextmanager
def demo(log: Path, wait_until: Callable[..., Any]) -> Iterator[str]:
    port = free_port()
    with log.open("wb") as output:
        process = start("demo", "--port", str(port), output=output)
    try:

        def through() -> bool:
            assert process.poll() is None, log.read_text()
            return "Your turn" in log.read_text()

        wait_until(through, timeout_s=60.0, every_s=0.1)
        yield f"http://127.0.0.1:{port}/"
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=10.0) == 0, log.read_text()
    finally:
        process.kill()
        process.wait()


DROP = """
const file = new File([%s], 'dropped', {type: 'image/png'}), dropped = new DataTransfer();
dropped.items.add(file);
document.body.dispatchEvent(new DragEvent('drop', {dataTransfer: dropped, bubbles: true, cancelable: true}));
"""


@needs_model
@needs_browser
@pytest.mark.timeout(150)
def test_the_page_reads_an_image_marks_it_and_tells_of_errors(
    tmp_path: Path, wait_until: Callable[..., Any]
) -> None:
    profile = tmp_path / "profile"
    profile.mkdir()
    with demo(tmp_path / "log", wait_until) as url, browser(profile, wait_until) as page:
        page.post("/url", url=url)
        wait_until(
            lambda: page.run("return document.querySelectorAll('.samples button').length") == 3
        )
        page.run("document.querySelectorAll('.samples button')[1].click()")
        wait_until(
            lambda: page.run("return document.querySelectorAll('#bytes tr').length") > 0,
            timeout_s=30.0,
        )
        text = page.run("return document.getElementById('lines').dataset.text")
        assert "Harbour  12 km" in text
        assert page.run("return document.querySelectorAll('#marks polygon').length") == 6
        assert "CLAIMED" in page.run("return document.getElementById('times').textContent")

        page.run(DROP % "'no image at all'")
        error = "return document.getElementById('error').textContent"
        wait_until(lambda: "415" in page.run(error), timeout_s=30.0)
        assert "no image that can be decoded" in page.run(error)
