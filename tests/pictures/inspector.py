# SPDX-License-Identifier: Apache-2.0
"""Make docs/inspector.png, docs/inspector-dark.png and docs/inspector-request.png: `just pictures`, or

    PYTHONPATH=src python -m tests.pictures.inspector [SECONDS] [FOLDER]

It starts `studio.py` with its inspector, sends it requests for a minute (so that the flow is full), kills one worker and stops another,
and has Chromium take the pictures. Needs `pip install playwright` and a Chromium on the path (or in $CHROMIUM).
"""

from __future__ import annotations

import math
import os
import random
import re
import shutil
import signal
import sys
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import requests

from cubbyhole.seen.attached import AttachedServer, attach
from cubbyhole.testing.serving import serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Page

STUDIO = Path(__file__).with_name("studio.py")
DOCS = Path(__file__).resolve().parents[2] / "docs"
SECONDS = 62.0
SIZE = {"width": 1480, "height": 1400}
STOPPED_WORKER = 5  # of /transcribe


def classify(url: str, beat: float) -> None:
    body = {"image": "heron.jpg"} if random.random() > 0.02 else {"picture": "heron.jpg"}
    requests.post(f"{url}/classify", json=body, timeout=90)
    time.sleep(max(0.0, random.expovariate(1 / (0.06 + 0.05 * math.sin(beat)))))


def summarize(url: str, _beat: float) -> None:
    body = {"words": random.randint(12, 38)}
    with requests.post(f"{url}/summarize", json=body, stream=True, timeout=90) as answer:
        for _ in answer.iter_content(None):
            pass
    time.sleep(random.uniform(0.1, 1.2))


def transcribe(url: str, _beat: float) -> None:
    headers = {"X-Priority": random.choice(["2", "5", "5", "5", "8"])}
    body = {"minutes": random.randint(1, 9), "audio": "a" * random.choice([300, 90_000, 2_400_000])}
    requests.post(f"{url}/transcribe", json=body, headers=headers, timeout=90)
    time.sleep(random.uniform(0.0, 0.8))


@contextmanager
def load(url: str) -> Iterator[None]:
    """Clients that come and go, until the `with` ends."""
    over = threading.Event()
    begun = time.monotonic()

    def ask(what: Callable[[str, float], None]) -> None:
        with suppress(requests.RequestException):  # the server ends before its clients
            while not over.is_set():
                what(url, (time.monotonic() - begun) / 7)

    crowd = [classify] * 5 + [summarize] * 4 + [transcribe] * 9
    threads = [threading.Thread(target=ask, args=(what,), daemon=True) for what in crowd]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()


def open_page(browser: Any, url: str, scheme: str) -> Page:
    page: Page = browser.new_context(
        viewport=SIZE, color_scheme=scheme, device_scale_factor=1
    ).new_page()
    page.goto(url)
    page.wait_for_selector("#table tbody tr")
    page.wait_for_selector("#spans figure")
    return page


def open_one(page: Page) -> None:
    """Open the time line of a stream; some are over before they can be asked for."""
    while True:
        page.locator("#table tbody tr").last.click()  # the youngest
        page.wait_for_selector(
            "#detail[open] .timeline, #detail[open] .empty:not(:text('Looking'))"
        )
        if page.locator("#detail .timeline").count():
            return
        page.keyboard.press("Escape")


def take_pictures(url: str, seen: AttachedServer, seconds: float, folder: Path) -> None:
    from playwright.sync_api import sync_playwright

    worker = seen.roster.pid(seen.roster.worker_cell(STOPPED_WORKER))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=os.environ.get("CHROMIUM") or shutil.which("chromium"),
            args=["--no-sandbox"],
        )
        watching = open_page(browser, url, "light")
        time.sleep(seconds / 2)
        os.kill(seen.roster.pid(seen.roster.worker_cell(2)), signal.SIGKILL)
        time.sleep(seconds / 2 - 4)
        os.kill(worker, signal.SIGSTOP)
        try:
            time.sleep(4)
            watching.screenshot(path=folder / "inspector.png")
            dark = open_page(browser, url, "dark")
            time.sleep(1.5)
            dark.screenshot(path=folder / "inspector-dark.png")
            watching.locator("#state").select_option("streaming")
            watching.locator("#endpoint").select_option("1")
            open_one(watching)
            watching.screenshot(
                path=folder / "inspector-request.png",
                clip={"x": SIZE["width"] - 820, "y": 0, "width": 820, "height": 466},
            )
        finally:
            with suppress(ProcessLookupError):  # it took so long that the worker was replaced
                os.kill(worker, signal.SIGCONT)
        browser.close()


def main(seconds: float = SECONDS, folder: Path = DOCS) -> None:
    with serving(f"{STUDIO}:make_server", arguments=["--inspector", "0"]) as server:
        found = re.search(r"inspector on (http://\S+)", server.output())
        assert found is not None, server.output()
        with attach(server.pid) as seen, load(server.url):
            while True:  # it starts with the fronts
                try:
                    requests.get(found[1], timeout=1)
                    break
                except requests.ConnectionError:
                    time.sleep(0.1)
            take_pictures(found[1], seen, seconds, folder)


if __name__ == "__main__":
    main(
        float(sys.argv[1]) if len(sys.argv) > 1 else SECONDS,
        Path(sys.argv[2]) if len(sys.argv) > 2 else DOCS,
    )
