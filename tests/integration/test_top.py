# SPDX-License-Identifier: Apache-2.0
"""The screen of `cubbyhole top`, driven by keys, on real servers."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests
from tests.conftest import poll_until
from tests.integration.crowd import crowd

from cubbyhole.seen.attached import AttachedServer, attach
from cubbyhole.testing.serving import Served, serving

pytest.importorskip("textual", reason="needs cubbyhole[tui]")

from textual.widgets import Sparkline, Static

from cubbyhole.cli.live import operating
from cubbyhole.cli.live.app import TopApp
from cubbyhole.cli.live.lines import LineTable
from cubbyhole.cli.live.reading import Reader
from cubbyhole.cli.live.screens import EntryScreen, Question

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SERVERS = Path(__file__).with_name("servers.py")
SIZE = (150, 45)
SELDOM_S = (
    3600.0  # the tests look when they want to: a screen that is drawn all the time is never idle
)


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with serving(f"{SERVERS}:two", timeout_s=60) as served:
        yield served


@pytest.fixture
def seen(server: Served) -> Iterator[AttachedServer]:
    with attach(server.pid) as attached:
        poll_until(lambda: not attached.entries())
        yield attached


@contextmanager
def held(server: Served, seen: AttachedServer, count: int) -> Iterator[None]:
    """So many requests are under way: two are held by stopped workers, the others wait."""

    def ask() -> None:
        body = {"input": 2, "sleep_s": 1}
        requests.post(f"{server.url}/square", json=body, timeout=60)

    threads = [threading.Thread(target=ask) for _ in range(count)]
    workers = [seen.roster.pid(seen.roster.worker_cell(index)) for index in range(2)]
    for thread in threads:
        thread.start()
    try:
        poll_until(lambda: len(seen.entries()) == count)
        poll_until(lambda: [e for e in seen.entries() if e.state == "CLAIMED"][1:])
        for pid in workers:
            os.kill(pid, signal.SIGSTOP)
        yield
    finally:
        for pid in workers:
            os.kill(pid, signal.SIGCONT)
        for thread in threads:
            thread.join()


async def until(pilot: Any, condition: Callable[[], Any]) -> None:
    deadline_s = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline_s
        pilot.app.look()
        await pilot.pause(0.02)


def rows(app: TopApp, name: str) -> list[list[str]]:
    """What a table shows, which has to be what it was filled with."""
    table = app.screen_stack[0].query_one(f"#{name}", LineTable)
    lines = [str(table.get_row_at(number)[0]) for number in range(table.row_count)]
    assert [line.split() for line in lines] == [" ".join(row).split() for row in table.cells]
    return [list(row) for row in table.cells]


def text_of(app: TopApp, selector: str) -> str:
    return str(app.screen.query_one(selector, Static).render())


async def test_processes_queues_and_every_request_are_shown(
    server: Served, seen: AttachedServer
) -> None:
    app = TopApp(seen, SELDOM_S)
    with held(server, seen, 5):
        async with app.run_test(size=SIZE) as pilot:
            await until(pilot, lambda: len(rows(app, "entries")) == 5)
            processes, queues, entries = (rows(app, n) for n in ("processes", "queues", "entries"))
            assert str(server.pid) in text_of(app, "#head")
    assert [row[0] for row in processes if row[0].startswith("worker")] == [
        "worker 0 /square",
        "worker 1 /square",
        "worker 2 /negate",
        "worker 3 /negate",
    ]
    assert {row[1] for row in processes} == {"ready"}
    assert sum("…" in row[-1] for row in processes) == 2  # what each worker holds, and how long
    assert queues[0][:4] == ["/square", "all", "3", "2"]
    assert queues[1][:4] == ["/negate", "all", "0", "0"]
    assert sorted(row[2] for row in entries) == ["claimed", "claimed", "ready", "ready", "ready"]
    assert app.seen is not None
    assert [row[0] for row in entries] == [str(one["id"]) for one in app.seen.entries]
    assert {row[7] for row in entries} == {"1"}  # the first try, as everywhere else


async def test_requests_are_sorted_and_filtered_by_keys(
    server: Served, seen: AttachedServer
) -> None:
    app = TopApp(seen, SELDOM_S)
    with held(server, seen, 4):
        async with app.run_test(size=SIZE) as pilot:
            await until(pilot, lambda: len(rows(app, "entries")) == 4)
            await pilot.press("space")  # so that they stand still
            while app.sorted_by != "request":
                await pilot.press("s")
            await pilot.press("r")
            ids = [int(row[0]) for row in rows(app, "entries")]
            assert ids == sorted(ids)
            await pilot.press("slash", *"claimed", "enter")
            assert {row[2] for row in rows(app, "entries")} == {"claimed"}
            await pilot.press("slash", *["backspace"] * 7, *str(ids[0]), "enter")
            assert [row[0] for row in rows(app, "entries")] == [str(ids[0])]
            title = str(app.query_one("#entries", LineTable).border_title)
            assert title.startswith("1 of 4 requests under way, by request")
            assert "PAUSED" in title
            await pilot.press("escape")
            assert len(rows(app, "entries")) == 4
            await pilot.press("slash", *"WAITING square", "enter")  # the word of the page
            assert {row[2] for row in rows(app, "entries")} == {"ready"}


async def test_the_cursor_stays_on_its_request_and_opens_it(
    server: Served, seen: AttachedServer
) -> None:
    app = TopApp(seen, SELDOM_S)
    with held(server, seen, 4):
        async with app.run_test(size=SIZE) as pilot:
            await until(pilot, lambda: len(rows(app, "entries")) == 4)
            await pilot.press("down")
            chosen = app._chosen()
            await pilot.press("r")
            assert app._chosen() == chosen
            await pilot.press("enter")
            await until(pilot, lambda: isinstance(app.screen, EntryScreen))
            text = text_of(app, "#entry-text")
            assert str(chosen) in text
            assert "request  " in text
            assert "█" in text
            await pilot.press("escape")
            await until(pilot, lambda: not isinstance(app.screen, EntryScreen))


async def test_rates_and_a_minute_of_them_are_shown(server: Served, seen: AttachedServer) -> None:
    app = TopApp(seen, SELDOM_S)
    async with app.run_test(size=SIZE) as pilot:
        await asyncio.to_thread(
            requests.post, f"{server.url}/negate", json={"input": 1}, timeout=20
        )
        line = app.query_one("#requests-line", Sparkline)
        await until(pilot, lambda: max(line.data or [0]) > 0)


async def test_a_screen_of_a_server_whose_processes_are_all_stopped_still_shows_everything(
    server: Served, seen: AttachedServer
) -> None:
    cells = range(seen.roster.supervisor)
    pids = [server.pid, *(seen.roster.pid(cell) for cell in cells)]
    app = TopApp(seen, SELDOM_S)
    with held(server, seen, 3):
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            async with app.run_test(size=SIZE) as pilot:
                await until(pilot, lambda: len(rows(app, "entries")) == 3)
                await until(pilot, lambda: {r[3] for r in rows(app, "processes")} == {"stopped"})
                await pilot.press("enter")
                await until(pilot, lambda: "time left" in text_of(app, "#entry-text"))
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """A supervisor that can be asked, and what it is asked."""
    found: list[tuple[Any, ...]] = []

    def note(*what: Any) -> str:
        found.append(what)
        return "done"

    monkeypatch.setattr(operating, "address_of", lambda _about: "somewhere")
    monkeypatch.setattr(operating, "cancel", note)
    monkeypatch.setattr(operating, "rerank", note)
    return found


async def test_nothing_is_changed_without_a_yes(
    server: Served, seen: AttachedServer, asked: list[tuple[Any, ...]]
) -> None:
    app = TopApp(seen, SELDOM_S)
    with held(server, seen, 3):
        async with app.run_test(size=SIZE) as pilot:
            await until(pilot, lambda: len(rows(app, "entries")) == 3)
            chosen = app._chosen()
            for keys in (("escape",), ("n", "enter"), ("enter",)):
                await pilot.press("c")
                await until(pilot, lambda: isinstance(app.screen, Question))
                await pilot.press(*keys)
                await until(pilot, lambda: not isinstance(app.screen, Question))
            assert asked == []
            await pilot.press("c", "y", "enter")
            await until(pilot, lambda: asked == [("somewhere", chosen)])
            await pilot.press("p", "3", "enter")
            await until(pilot, lambda: asked[1:] == [("somewhere", chosen, 3)])


async def test_without_an_operators_address_the_keys_say_so(
    server: Served, seen: AttachedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operating, "address_of", lambda _about: "")
    app = TopApp(seen, SELDOM_S)
    with held(server, seen, 3):
        async with app.run_test(size=SIZE) as pilot:
            await until(pilot, lambda: len(rows(app, "entries")) == 3)
            await pilot.press("c")
            await until(pilot, lambda: len(app._notifications) == 1)
            assert not isinstance(app.screen, Question)


async def test_a_small_terminal_keeps_processes_queues_and_requests(
    server: Served, seen: AttachedServer
) -> None:
    app = TopApp(seen, SELDOM_S)
    with held(server, seen, 4):
        async with app.run_test(size=(80, 24)) as pilot:
            await until(pilot, lambda: len(rows(app, "entries")) == 4)
            tables = {name: app.query_one(f"#{name}", LineTable) for name in ("processes", "queues", "entries")}  # fmt: skip
            await until(pilot, lambda: all(table.region.height >= 3 for table in tables.values()))
            assert all(table.region.bottom <= 24 for table in tables.values())
            await pilot.resize_terminal(150, 45)
            await until(pilot, lambda: app.query_one("#lines").display)


async def test_a_class_that_waited_keeps_its_row_so_that_nothing_jumps() -> None:
    with serving(f"{SERVERS}:prioritised", timeout_s=60) as server, attach(server.pid) as seen:
        worker = seen.roster.pid(seen.roster.worker_cell(0))
        reader = Reader(seen)
        os.kill(worker, signal.SIGSTOP)
        try:
            with crowd(server.url, 3, input=2, headers={"X-Priority": "8"}):
                poll_until(lambda: len(seen.entries()) == 3)
                before = [row[:2] for row in reader.look().queues]
        finally:
            os.kill(worker, signal.SIGCONT)
        poll_until(lambda: not seen.entries())
        assert before == [("/predict", "all"), ("", "8")]
        assert [row[:2] for row in reader.look().queues] == before


def test_classes_of_a_queue_have_rows_of_their_own() -> None:
    with serving(f"{SERVERS}:prioritised", timeout_s=60) as server, attach(server.pid) as seen:

        def ask(priority: str) -> None:
            requests.post(
                f"{server.url}/predict",
                json={"input": 2, "sleep_s": 1},
                headers={"X-Priority": priority},
                timeout=60,
            )

        threads = [threading.Thread(target=ask, args=(priority,)) for priority in "5918"]
        for thread in threads:
            thread.start()
        poll_until(lambda: len(seen.entries()) == 4)
        queues = Reader(seen).look().queues
        for thread in threads:
            thread.join()
    assert queues[0][:4] == ("/predict", "all", "3", "1")
    assert len(queues) == 4
    assert {row[2] for row in queues[1:]} == {"1"}


def test_without_textual_the_view_is_plain_and_says_how_to_get_more(
    server: Served, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.util as u\n"
        "find = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name == 'textual' else find(name, *a)\n"
    )
    script = (
        "import os, pty, sys\n"
        "pid, fd = pty.fork()\n"
        "if pid == 0:\n"
        f"    os.execv(sys.executable, [sys.executable, '-m', 'cubbyhole', 'top', '--server', '{server.pid}'])\n"
        "seen = b''\n"
        "while b'slots' not in seen:\n"
        "    seen += os.read(fd, 65536)\n"
        "os.kill(pid, 2)\n"
        "os.waitpid(pid, 0)\n"
        "sys.stdout.buffer.write(seen)\n"
    )
    environment = {
        **os.environ,
        "PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}",
        "TERM": "xterm",
    }
    import subprocess

    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, timeout=50, check=True
    )
    text = re.sub(r"\s+", " ", done.stdout.decode())
    assert "cubbyhole[tui]" in text
