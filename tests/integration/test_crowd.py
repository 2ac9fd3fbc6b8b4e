# SPDX-License-Identifier: Apache-2.0
"""1,200 requests under way at once: whatever shows them stays of bounded size, says what it leaves out, and finds every one."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.conftest import poll_until
from tests.integration.crowd import crowd
from tests.integration.inspector_page import NEEDS_A_BROWSER, ROWS, chromium, opened
from tests.integration.test_inspector import address_of
from tests.integration.test_seeing import command

from cubbyhole.seen.attached import AttachedServer, attach
from cubbyhole.testing.serving import Served, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

SERVERS = Path(__file__).with_name("servers.py")
MANY = 1200

pytestmark = pytest.mark.timeout(180)


@contextmanager
def crowded() -> Iterator[tuple[Served, AttachedServer]]:
    """A server whose workers are stopped, with MANY requests waiting for them."""
    with (
        serving(f"{SERVERS}:patient", arguments=["--inspector", "0"], timeout_s=120) as server,
        attach(server.pid) as seen,
    ):
        workers = [seen.roster.pid(seen.roster.worker_cell(n)) for n in range(seen.roster.workers)]
        for pid in workers:
            os.kill(pid, signal.SIGSTOP)
        try:
            with crowd(server.url, MANY, input=2):
                poll_until(lambda: len(seen.entries()) == MANY, timeout_s=60)
                yield server, seen
        finally:
            for pid in workers:
                os.kill(pid, signal.SIGCONT)
        poll_until(lambda: not seen.entries(), timeout_s=60)


@pytest.fixture(scope="module")
def busy() -> Iterator[tuple[Served, AttachedServer]]:
    with crowded() as made:
        yield made


def test_the_command_line_lists_all_of_them_oldest_first(
    busy: tuple[Served, AttachedServer],
) -> None:
    server, seen = busy
    pid = str(server.pid)
    head, _, *lines = command("requests", "--server", pid).splitlines()
    assert "1,200 requests under way" in head
    assert [line.split()[0] for line in lines] == [str(entry.id) for entry in seen.entries()]
    found = json.loads(command("requests", "--json", "--server", pid))
    assert len(found["requests"]) == MANY
    assert "and 1,185 more" in command("top", "--once", "--every", "0.1", "--server", pid)


def test_the_screen_draws_the_first_and_finds_the_last(
    busy: tuple[Served, AttachedServer],
) -> None:
    pytest.importorskip("textual", reason="needs cubbyhole[tui]")
    from textual.widgets import DataTable

    from cubbyhole.cli.live.app import SHOWN_ENTRIES, TopApp

    _, seen = busy
    youngest = str(seen.entries()[-1].id)

    async def look() -> tuple[int, str, str]:
        app = TopApp(seen, 3600.0)
        async with app.run_test(size=(150, 45)) as pilot:
            await pilot.pause()
            table = app.query_one("#entries", DataTable)
            rows, title = table.row_count, str(table.border_title)
            await pilot.press("slash", *youngest, "enter")
            return rows, title, str(table.get_row_at(0)[0]).split()[0]

    rows, title, found = asyncio.run(look())
    assert rows == SHOWN_ENTRIES
    assert title.startswith("the first 200 of 1,200 requests under way")
    assert found == youngest


@pytest.mark.parametrize("_", [pytest.param(0, marks=NEEDS_A_BROWSER)])
def test_the_page_draws_the_first_says_so_and_finds_the_last(
    busy: tuple[Served, AttachedServer], _: int
) -> None:
    server, seen = busy
    youngest = str(seen.entries()[-1].id)
    with chromium() as browser, opened(browser, address_of(server)) as page:
        page.locator("#count", has_text="the first 200 of 1200 shown, 1200 under way").wait_for()
        assert page.locator(ROWS).count() == 200
        page.locator("#text").fill(youngest)
        poll_until(lambda: page.locator(ROWS).count() == 1)
        page.keyboard.press("Enter")
        page.locator("#detail[open] .timeline").wait_for()
        assert youngest in page.locator("#detail-title").inner_text()
