# SPDX-License-Identifier: Apache-2.0
"""The demo in the terminal: start the server, send it the samples, print what happened to each request.

`LitServer.run` wants the main thread (it takes the signals), so the client of the demo lives in a second one and ends the
server, if it must, as anybody would: with SIGTERM.

Flow:  cli/demo.py -> **perform** -> serving.make_server().run()  beside  visit.Visitor -> rich tables
Owns:  the visiting thread.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.panel import Panel
from rich.table import Table

from cubbyhole.demo.samples import ENOUGH, SAMPLES
from cubbyhole.demo.visit import Reading, VisitFailed, Visitor

if TYPE_CHECKING:
    from rich.console import Console
    from rich.status import Status

START_S = 120.0  # loading the model takes 3 s on a laptop; a first run from a slow disk much longer
LOOK_S = 0.1
EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  (where a client finds what listens everywhere)
NEEDED = ("rapidocr", "onnxruntime", "cv2")


def missing() -> list[str]:
    """Return which packages of the extra `demo` are not installed."""
    return [name for name in NEEDED if find_spec(name) is None]


class Performance:
    """One run of the demo; `code` is its exit status."""

    def __init__(self, console: Console, host: str, port: int, *, once: bool) -> None:
        self.console = console
        self.once = once
        self.visitor = Visitor(EVERYWHERE.get(host, host), port)
        self.url = f"http://{'localhost' if host in ('127.0.0.1', *EVERYWHERE) else host}:{port}"
        self.began = time.monotonic()
        self.code = 1
        self.ended = threading.Event()

    def visit(self) -> None:
        """Wait for the server, send the samples, tell; the second thread runs this."""
        try:
            with self.console.status("Starting the processes ...") as status:
                if not self._wait_until_ready(status):
                    return
            self.console.print(
                f"[bold green]Ready[/] in {time.monotonic() - self.began:.1f} s, at [bold]{self.url}[/]"
            )
            self._send_samples()
        except (VisitFailed, OSError) as problem:
            self.code = 1
            self.console.print(f"[bold red]The demo failed:[/] {escape(str(problem))}")
        finally:
            if self.once and not self.ended.is_set():
                os.kill(os.getpid(), signal.SIGTERM)
        if not self.once:
            self.console.print(
                f"\nNow yours: open [bold]{self.url}[/] and drop an image on the page. Ctrl+C ends it."
            )

    def _wait_until_ready(self, status: Status) -> bool:
        while not self.ended.is_set():
            answer = self.visitor.health()
            if answer == 200:
                return True
            elapsed = time.monotonic() - self.began
            if elapsed > START_S:
                raise VisitFailed(
                    f"The server is not ready after {START_S:.0f} s; its log, above, tells why."
                )
            doing = "Starting the processes" if answer is None else "Loading the model"
            status.update(f"{doing} ... {elapsed:.0f} s")
            self.ended.wait(LOOK_S)
        return False

    def _send_samples(self) -> None:
        before = self.visitor.counters()
        readings = []
        for sample in SAMPLES:
            with self.console.status(f"Sending {sample.name} ..."):
                readings.append(self.visitor.read(sample))
            self.console.print(reading_panel(readings[-1]))
        self.console.print(times_table(readings))
        self.console.print(bytes_table(before, self.visitor.counters()))
        wrong = [reading.sample.name for reading in readings if not reading.verdict.right]
        self.code = 1 if wrong else 0
        if wrong:
            self.console.print(f"[bold red]Read wrongly:[/] {', '.join(wrong)}")
        else:
            self.console.print(f"[bold green]All {len(readings)} samples were read rightly.[/]")


def perform(console: Console, *, host: str, port: int, workers: int, once: bool) -> int:
    """Run the demo until it is ended (or, with `once`, until the samples are read).

    Returns:
        Exit status: 0 if every sample was read rightly and the server ended well.
    """
    from cubbyhole.demo.serving import make_server

    performance = Performance(console, host, port, once=once)
    server = make_server(workers)
    visiting = threading.Thread(target=performance.visit, name="demo-visitor", daemon=True)
    visiting.start()
    try:
        server.run(
            host=host,
            port=port,
            num_api_servers=1,
            log_level="warning",
            generate_client_file=False,
        )
    finally:
        performance.ended.set()
        visiting.join(timeout=5.0)
    return performance.code


def reading_panel(reading: Reading) -> Panel:
    """Show what was read in one sample."""
    verdict = reading.verdict
    words = f"{verdict.score:.1%} of the letters right" + (
        "" if verdict.right else f", wanted {ENOUGH:.0%}"
    )
    mark = "[green]✓[/]" if verdict.right else "[red]✗[/]"
    size = f"{len(reading.sample.image()):,} bytes"
    return Panel(
        escape(reading.text) or "[dim](nothing)[/]",
        title=f"{mark} [bold]{reading.sample.name}[/], {size}",
        subtitle=f"{words}, {reading.seen_s * 1e3:,.0f} ms",
        title_align="left",
        subtitle_align="right",
        border_style="green" if verdict.right else "red",
        width=64,
    )


def times_table(readings: list[Reading]) -> Table:
    """Show how long each request was in each state of its entry, in milliseconds."""
    table = Table(title="Where each request spent its time (ms)", title_justify="left", width=64)
    table.add_column("state of its entry")
    for reading in readings:
        table.add_column(reading.sample.name, justify="right")
    words = {timing.name: timing.words for reading in readings for timing in reading.timings}
    for name, told in words.items():
        durations = [
            next((timing.duration_ms for timing in reading.timings if timing.name == name), 0.0)
            for reading in readings
        ]
        table.add_row(escape(told), *(f"{duration:,.3f}" for duration in durations))
    table.add_row(
        "[dim]of it in the model[/]",
        *(f"[dim]{reading.model_s * 1e3:,.3f}[/]" for reading in readings),
        end_section=True,
    )
    table.add_row("seen by the client", *(f"{reading.seen_s * 1e3:,.3f}" for reading in readings))
    return table


def bytes_table(before: dict[str, Any], after: dict[str, Any]) -> Table:
    """Show what the samples moved through the segment."""
    grew = {
        name: value - before[name]
        for name, value in after.items()
        if isinstance(value, int) and name.endswith("_total")
    }
    table = Table(title="What crossed the segment", title_justify="left", width=64)
    table.add_column(f"channel: {after['kind']}")
    table.add_column("", justify="right")
    carried = grew["request_bytes_total"] + grew["result_bytes_total"]
    table.add_row("images, front to worker", f"{grew['request_bytes_total']:,} bytes")
    table.add_row("answers, worker to front", f"{grew['result_bytes_total']:,} bytes")
    copies = grew["copied_bytes_total"]
    share = f"{copies / carried:.2f} copies of each byte" if carried else "nothing carried"
    table.add_row("copied by the channel", f"{copies:,} bytes, {share}")
    table.add_row(
        "requests, and doorbells rung", f"{grew['submitted_total']}, {grew['rings_total']}"
    )
    table.add_row("entries in use now", f"{after['slots_used']} of {after['slots']}")
    return table
