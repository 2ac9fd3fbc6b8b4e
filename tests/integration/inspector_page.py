# SPDX-License-Identifier: Apache-2.0
"""What the tests of the inspector's page share: a browser's page that must stay silent, and requests that are held under way."""

from __future__ import annotations

import os
import shutil
import signal
import threading
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests
from tests.conftest import poll_until

from cubbyhole.seen.attached import attach

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page

    from cubbyhole.seen.attached import AttachedServer

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium")
SERVER = f"{Path(__file__).with_name('inspected.py')}:make_server"
ROWS = "#table tbody tr"
NEEDS_A_BROWSER = [
    pytest.mark.skipif(find_spec("playwright") is None, reason="needs: pip install playwright"),
    pytest.mark.skipif(CHROMIUM is None, reason="needs a browser: apt install chromium"),
]


@contextmanager
def chromium() -> Iterator[Browser]:
    """Run a Chromium without a window."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


class Watched:
    """A server with its inspector, and requests under way that end when the test says so."""

    def __init__(self, url: str, page_url: str, pid: int) -> None:
        self.url = url
        self.page_url = page_url
        self.pid = pid
        self._threads: list[threading.Thread] = []

    def ask(self, path: str = "/slow", **body: Any) -> None:
        """Send a request, and do not wait for its answer."""
        thread = threading.Thread(
            target=lambda: requests.post(f"{self.url}{path}", json=body, timeout=60)
        )
        thread.start()
        self._threads.append(thread)

    def join(self) -> None:
        """Wait for all answers."""
        for thread in self._threads:
            thread.join()


@contextmanager
def opened(browser: Browser, url: str, **options: Any) -> Iterator[Page]:
    """The page, which must say nothing in the console and ask nobody but its own server."""
    with browser.new_context(**options) as context:
        page = context.new_page()
        said: list[str] = []
        asked: list[str] = []
        page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(url)
        page.wait_for_selector("#tiles .tile")
        yield page
        assert said == []
        assert [one for one in asked if not one.startswith(url)] == []
        assert len(asked) >= 8  # the page, its parts, the stream


def has(seen: AttachedServer, count: int) -> bool:
    return len(seen.entries()) == count


def claimed(seen: AttachedServer) -> int:
    """How many requests are with a worker."""
    return sum(entry.state == "CLAIMED" for entry in seen.entries())


@contextmanager
def held(watched: Watched, *paths: str) -> Iterator[list[str]]:
    """Requests under way, their workers stopped so that they stay; gives their ids, oldest first."""
    with attach(watched.pid) as seen:
        workers = [seen.roster.pid(seen.roster.worker_cell(n)) for n in range(seen.roster.workers)]
        poll_until(lambda: not seen.entries())
        try:
            for number, path in enumerate(paths):
                watched.ask(path, sleep_s=0.8)
                poll_until(partial(has, seen, number + 1))
            # Each endpoint has a worker, which holds its first.
            poll_until(lambda: claimed(seen) == len(set(paths)))
            for pid in workers:
                os.kill(pid, signal.SIGSTOP)
            yield [str(entry.id) for entry in seen.entries()]
        finally:
            for pid in workers:
                os.kill(pid, signal.SIGCONT)
        poll_until(lambda: not seen.entries(), timeout_s=30)
