# SPDX-License-Identifier: Apache-2.0
"""The inspector's page in a real Chromium, as people use it: with the mouse, with the keyboard, in both themes."""

from __future__ import annotations

from typing import TYPE_CHECKING

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

    from playwright.sync_api import Browser, Page

pytestmark = [*NEEDS_A_BROWSER, pytest.mark.timeout(120)]


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


def test_rows_appear_with_their_state_and_go_when_they_are_answered(
    browser: Browser, watched: Watched
) -> None:
    with opened(browser, watched.page_url) as page:
        with held(watched, "/slow", "/slow") as ids:
            page.wait_for_selector(f'{ROWS}[data-id="{ids[0]}"] >> text=running')
            page.wait_for_selector(f'{ROWS}[data-id="{ids[1]}"] >> text=waiting')
            page.wait_for_selector(f'{ROWS}[data-id="{ids[1]}"] >> text=next')
            page.wait_for_selector("#queues >> text=/slow")
        poll_until(lambda: page.locator(ROWS).count() == 0)
        page.locator("#state").select_option("over")
        page.wait_for_selector(f'{ROWS}[data-id="{ids[0]}"] >> text=finished')


def test_ages_go_on_and_a_stopped_worker_is_marked(browser: Browser, watched: Watched) -> None:
    with opened(browser, watched.page_url) as page, held(watched, "/slow") as ids:
        row = page.locator(f'{ROWS}[data-id="{ids[0]}"]')
        row.locator("text=worker stopped").wait_for()
        before = row.locator("td").nth(3).inner_text()
        poll_until(lambda: row.locator("td").nth(3).inner_text() != before)
        page.locator("#processes .ill >> text=stopped").first.wait_for()
        page.locator("#stuck").check()
        assert page.locator(ROWS).count() == 1


def shown(page: Page) -> list[str]:
    rows = page.locator(ROWS).all()
    return [row.get_attribute("data-id") or "" for row in rows]


def test_filters_choose_by_text_state_and_endpoint(browser: Browser, watched: Watched) -> None:
    with (
        opened(browser, watched.page_url) as page,
        held(watched, "/slow", "/slow", "/other") as ids,
    ):
        poll_until(lambda: shown(page) == ids)
        page.locator("#text").fill("OTHER")
        poll_until(lambda: shown(page) == ids[2:])
        page.locator("#text").fill(ids[1])
        poll_until(lambda: shown(page) == [ids[1]])
        page.locator("#text").fill("nothing like it")
        poll_until(lambda: not shown(page))
        assert page.locator("#none").inner_text() == "No request matches these filters."
        page.locator("#text").fill("")
        page.locator("#state").select_option("ready")
        poll_until(lambda: shown(page) == [ids[1]])  # the first is with a worker by then
        page.locator("#state").select_option("live")
        page.locator("#endpoint").select_option(label="/other")
        poll_until(lambda: shown(page) == [ids[2]])


def test_a_heading_sorts_and_sorts_back(browser: Browser, watched: Watched) -> None:
    with opened(browser, watched.page_url) as page, held(watched, "/slow", "/slow", "/slow") as ids:
        poll_until(lambda: page.locator(ROWS).count() == 3)
        assert shown(page) == ids  # the oldest first
        page.locator("#table th button", has_text="Age").click()
        assert shown(page) == ids[::-1]
        assert page.locator("#table th[aria-sort]").get_attribute("aria-sort") == "ascending"
        page.locator("#table th button", has_text="Request").click()
        assert shown(page) == sorted(ids, key=int)
        page.locator("#table th button", has_text="Request").click()
        assert shown(page) == sorted(ids, key=int, reverse=True)


def test_a_click_opens_the_time_line(browser: Browser, watched: Watched) -> None:
    with opened(browser, watched.page_url) as page, held(watched, "/slow") as ids:
        page.locator(f'{ROWS}[data-id="{ids[0]}"]').click()
        line = page.locator("#detail[open] .timeline")
        line.wait_for()
        assert "runs for" in (line.get_attribute("aria-label") or "")
        for lane in ("front", "queue /slow", "worker 0"):
            line.locator(f"text={lane}").first.wait_for()
        assert ids[0] in page.locator("#detail-title").inner_text()
        assert (
            page.locator("#detail .orders button").count() == 0
            or page.locator("#detail .orders >> text=Cancel").is_visible()
        )
        page.locator("#close").click()
        assert not page.locator("#detail").is_visible()


def test_the_keyboard_reaches_everything(browser: Browser, watched: Watched) -> None:
    with opened(browser, watched.page_url) as page, held(watched, "/slow", "/slow") as ids:
        poll_until(lambda: page.locator(ROWS).count() == 2)
        page.keyboard.press("/")
        page.keyboard.type("slow")
        assert page.locator("#text").input_value() == "slow"
        page.keyboard.press("Escape")
        for _ in range(40):  # Tab comes to the table in the end, and to one row of it only
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.closest('tbody') !== null"):
                break
        focused = "document.activeElement.dataset.id"
        assert page.evaluate(focused) == ids[0]
        page.keyboard.press("ArrowDown")
        assert page.evaluate(focused) == ids[1]
        page.keyboard.press("Enter")
        page.locator("#detail[open] .timeline").wait_for()
        assert ids[1] in page.locator("#detail-title").inner_text()
        page.keyboard.press("Escape")
        assert not page.locator("#detail").is_visible()
        assert page.evaluate(focused) == ids[1]  # back to where one was
        page.keyboard.press("p")
        assert page.locator("#live").inner_text() == "paused"


def test_a_failure_is_listed_and_opens_with_its_traceback(
    browser: Browser, watched: Watched
) -> None:
    requests.post(f"{watched.url}/slow", json={"fail": "<img src=x>"}, timeout=20)
    with opened(browser, watched.page_url) as page:
        page.locator("#failures >> text=predict_failed").first.click()
        page.locator("#detail[open] >> text=ValueError").first.wait_for()
        assert "in predict" in page.locator("#detail pre").inner_text()
        assert page.locator("img[src=x]").count() == 0  # what requests say is text, never markup


def test_both_themes_and_the_choice_between_them(browser: Browser, watched: Watched) -> None:
    def paper(page: Page) -> str:
        return str(page.evaluate("getComputedStyle(document.body).backgroundColor"))

    with opened(browser, watched.page_url, color_scheme="dark") as page:
        dark = paper(page)
        page.locator("#theme").click()
        light = paper(page)
        assert dark != light
        page.reload()
        page.wait_for_selector("#tiles .tile")
        assert paper(page) == light  # the choice is kept
    with opened(browser, watched.page_url, color_scheme="light") as page:
        assert paper(page) == light


def test_what_a_request_carries_is_shown_only_where_the_server_allows_it(
    browser: Browser, watched: Watched
) -> None:
    with opened(browser, watched.page_url) as page, held(watched, "/slow") as ids:
        page.locator(f'{ROWS}[data-id="{ids[0]}"]').click()
        page.locator("#detail >> text=Show what it carries").click()
        page.locator("#detail pre >> text=sleep_s").wait_for()


def test_of_more_requests_than_a_page_can_lay_out_the_oldest_are_shown_and_all_are_found(
    browser: Browser, watched: Watched
) -> None:
    with attach(watched.pid) as seen, held(watched, "/slow"):
        for _ in range(250):
            watched.ask("/other", sleep_s=0.0)
        poll_until(lambda: len(seen.entries()) >= 251, timeout_s=30)
        with opened(browser, watched.page_url) as page:
            page.locator("#count", has_text="the first 200 of 251").wait_for()
            assert page.locator(ROWS).count() == 200
            page.locator("#text").fill(str(seen.entries()[-1].id))
            assert page.locator(ROWS).count() == 1


def test_the_key_is_asked_for_and_opens_the_page(browser: Browser) -> None:
    environment = {"CUBBYHOLE_INSPECTOR_KEY": "a key of some length"}
    with serving(SERVER, arguments=["--inspector", "0"], environment=environment) as server:
        url = address_of(server)
        with browser.new_context() as context:
            page = context.new_page()
            page.goto(url)
            assert page.locator("#tiles").count() == 0
            page.locator("#key").fill("wrong")
            page.keyboard.press("Enter")
            page.locator("text=This is not the inspector's key.").wait_for()
            page.locator("#key").fill("a key of some length")
            page.keyboard.press("Enter")
            page.wait_for_selector("#tiles .tile")
            assert page.evaluate("document.cookie") == ""  # no script sees the session


def test_the_page_says_when_the_server_has_ended(browser: Browser) -> None:
    with serving(SERVER, arguments=["--inspector", "0"]) as server:
        url = address_of(server)
        with browser.new_context() as context:
            page = context.new_page()
            page.goto(url)
            page.locator('#live[data-state="live"]').wait_for()
            server.stop()
            page.locator('#live[data-state="lost"]').wait_for()
