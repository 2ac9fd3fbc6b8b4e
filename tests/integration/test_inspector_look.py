# SPDX-License-Identifier: Apache-2.0
"""The inspector's page as it looks: nothing is cut off, nothing is too pale, the histograms count everything."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import pytest
import requests
from tests.conftest import poll_until
from tests.integration.inspector_page import (
    NEEDS_A_BROWSER,
    ROWS,
    SERVER,
    Watched,
    chromium,
    held,
    opened,
)
from tests.integration.test_inspector import address_of

from cubbyhole.seen.attached import attach
from cubbyhole.testing.serving import serving

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser

pytestmark = [*NEEDS_A_BROWSER, pytest.mark.timeout(120)]

# Text whose colour differs too little from what is behind it (WCAG AA: 4.5), as element, ratio and text.
PALE = """() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const read = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = (top, below) => [0, 1, 2].map((i) => top[i] * top[3] + below[i] * (1 - top[3]));
  const behind = (node) => {
    const layers = [];
    for (let one = node; one; one = one.parentElement) layers.push(read(getComputedStyle(one).backgroundColor));
    return layers.reverse().reduce((below, top) => over(top, below), [255, 255, 255]);
  };
  const part = (value) => (value / 255 <= 0.03928 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4);
  const light = ([r, g, b]) => 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
  const found = [];
  for (const node of document.querySelectorAll("body *")) {
    const says = [...node.childNodes].some((one) => one.nodeType === Node.TEXT_NODE && one.textContent.trim());
    if (!says || !node.getClientRects().length || node.closest("svg")) continue;
    const ground = behind(node);
    const [most, least] = [light(over(read(getComputedStyle(node).color), ground)), light(ground)].sort((a, b) => b - a);
    const ratio = (most + 0.05) / (least + 0.05);
    if (ratio < 4.5) found.push([node.tagName, node.className, ratio, node.textContent]);
  }
  return found;
}"""
CUT_OFF = "(node) => node.scrollWidth - node.clientWidth"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as opened_browser:
        yield opened_browser


@pytest.fixture(scope="module")
def watched() -> Iterator[Watched]:
    with serving(SERVER, arguments=["--inspector", "0"]) as server:
        made = Watched(server.url, address_of(server), server.pid)
        yield made
        made.join()


def test_histograms_count_all_that_came_to_an_end_also_before_anybody_looked(
    browser: Browser, watched: Watched
) -> None:
    with attach(watched.pid) as seen, requests.Session() as session:
        for _ in range(300):  # more than the history holds
            session.post(f"{watched.url}/slow", json={}, timeout=20)
        poll_until(lambda: seen.histograms()[0].request.count >= 300)
        counted = seen.histograms()[0].request.count
    with opened(browser, watched.page_url) as page:
        caption = page.locator("#spans figcaption", has_text="From arrival to answer")
        caption.locator("span", has_text=f"{counted}").wait_for()
        assert "Running" in (page.locator("#spans .share").get_attribute("aria-label") or "")
        page.locator("#span-window").select_option("minute")
        page.locator("#spans .ends, #spans .empty").first.wait_for()
        page.locator("#span-endpoint").select_option(label="/other")
        page.locator("#spans .empty, #spans figure").first.wait_for()


@pytest.mark.parametrize("width", [1280, 400])
def test_nothing_is_cut_off_at_the_side(browser: Browser, watched: Watched, width: int) -> None:
    size: Any = {"width": width, "height": 900}
    with (
        opened(browser, watched.page_url, viewport=size) as page,
        held(watched, "/slow", "/slow", "/other"),
    ):
        page.locator(f"{ROWS} >> text=worker stopped").first.wait_for()
        assert page.locator("html").evaluate(CUT_OFF) == 0
        for panel in page.locator(".card").all():
            assert panel.evaluate(CUT_OFF) == 0
        if width >= 1280:  # on a telephone the table is drawn to the side
            assert page.locator(".scroll").evaluate(CUT_OFF) == 0
        page.locator(ROWS).first.click()
        page.locator("#detail[open] .timeline").wait_for()
        assert page.locator("#detail").evaluate(CUT_OFF) == 0
        words = page.locator("#detail .timeline text").first
        size_px = words.evaluate(
            "(node) => node.getScreenCTM().a * parseFloat(getComputedStyle(node).fontSize)"
        )
        assert size_px >= 10


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_can_be_told_from_its_background(
    browser: Browser, watched: Watched, scheme: str
) -> None:
    requests.post(f"{watched.url}/slow", json={"fail": "no picture"}, timeout=20)
    assert requests.post(f"{watched.url}/other", json={"sleep_s": 0}, timeout=20).ok
    with (
        opened(browser, watched.page_url, color_scheme=scheme) as page,
        held(watched, "/slow", "/slow"),
    ):
        page.locator("#state").select_option("")
        page.locator(f"{ROWS} >> text=worker stopped").first.wait_for()
        page.locator(f"{ROWS} >> text=finished").first.wait_for()
        page.locator(f"{ROWS} >> text=failed").first.wait_for()
        assert page.evaluate(PALE) == []


def test_a_request_whose_client_left_is_told_as_cancelled_and_found_by_that_word(
    browser: Browser, watched: Watched
) -> None:
    host, port = watched.url.removeprefix("http://").split(":")
    body = b'{"sleep_s": 0.3}'
    head = b"POST /other HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    with attach(watched.pid) as seen:
        with socket.create_connection((host, int(port))) as client:
            client.sendall(head % len(body) + body)
            poll_until(seen.entries)
        poll_until(lambda: any(one.outcome == "cancelled" for one in seen.history()))
    with opened(browser, watched.page_url) as page:
        page.locator("#state").select_option("over")
        page.locator("#text").fill("cancelled")
        pills = page.locator(f"{ROWS} .pill")
        poll_until(lambda: pills.count() == 1)
        assert pills.inner_text() == "cancelled"


def test_a_failure_is_found_by_the_id_that_its_client_gave(
    browser: Browser, watched: Watched
) -> None:
    name = "order-" + "7" * 100
    requests.post(
        f"{watched.url}/slow", json={"fail": "x"}, headers={"X-Request-ID": name}, timeout=20
    )
    with opened(browser, watched.page_url) as page:
        page.locator("#state").select_option("over")
        page.locator("#text").fill(name)
        poll_until(lambda: page.locator(ROWS).count() == 1)
        page.locator(ROWS).click()
        page.locator(f"#detail[open] >> text={name}").wait_for()
        assert page.locator("#detail").evaluate(CUT_OFF) == 0
